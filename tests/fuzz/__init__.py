"""Fuzzing of the decoders with atheris, which searches for bytes that break a promise.

    make fuzz                 # every target, a minute each
    make fuzz SECONDS_EACH=600

`targets` says what each decoder promises, `__main__` lets atheris search against one of them,
and `fuzz.sh` installs atheris and runs them all. A failure leaves the bytes in a file
`crash-...`; `python -m tests.fuzz TARGET FILE` runs them again.
"""
