"""`python -m ramfw.cli`."""

from ramfw.cli import main

main(prog_name="ramfw")
