"""Settings for every test."""

from hypothesis import settings

# How long one example takes says nothing on a busy machine with two cores; pytest-timeout bounds
# the whole test. A failing example is printed so that it can be run again elsewhere.
settings.register_profile("ramfw", deadline=None, print_blob=True)
settings.load_profile("ramfw")
