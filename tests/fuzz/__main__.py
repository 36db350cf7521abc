"""`python -m tests.fuzz TARGET [libFuzzer options, folders or files]`."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path


def main() -> None:
    name, *options = sys.argv[1:]
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["ramfw.wire"]):
        targets = importlib.import_module("tests.fuzz.targets").TARGETS
    seeds = importlib.import_module("tests.fuzz.seeds").seeds
    with tempfile.TemporaryDirectory() as corpus:
        if not any(Path(option).is_file() for option in options):
            for number, seed in enumerate(seeds(name)):
                Path(corpus, str(number)).write_bytes(seed)
            options.append(corpus)
        atheris.Setup([sys.argv[0], *options], targets[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
