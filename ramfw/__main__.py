"""`python -m ramfw`: the command, of whichever tree or installation Python finds first."""

from ramfw.cli import main

if __name__ == "__main__":
    main(prog_name="ramfw")
