"""`python -m tests.bench [ROW...]`: measure, print, and write build/bench.json.

Exit code 0 where every row could be run, whatever it measured; with --strict, 1 where a bound was
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

from tests.bench import opening_rows, rows, service_rows
from tests.bench.report import Measure, machine
from tests.bench.setting import Setting
from tests.lab.space import Space

RESULT = Path("build/bench.json")
ROWS = rows.ROWS | opening_rows.ROWS | service_rows.ROWS


def main() -> int:
    arguments = _arguments()
    about = machine()
    for what, value in about.items():
        print(f"{what}: {value}")
    measures: list[Measure] = []
    failed: list[str] = []
    space = Space()
    try:
        bench = rows.Bench(Setting(space), arguments.pairs)
        for name in arguments.rows or ROWS:
            print(f"\n{name}: {ROWS[name].__doc__}", flush=True)
            try:
                found = ROWS[name](bench)
            except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError):
                failed.append(name)
                traceback.print_exc()
                continue
            measures += found
            print("\n".join(line for measure in found for line in measure.lines()), flush=True)
    finally:
        space.close()
    RESULT.parent.mkdir(exist_ok=True)
    result = {
        "machine": about,
        "pairs": arguments.pairs,
        "measures": [measure.as_json() for measure in measures],
        "failed": failed,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    missed = [measure for measure in measures if not measure.met]
    print(f"\n{len(measures) - len(missed)} bounds met, {len(missed)} missed; written: {RESULT}")
    return 1 if failed or (arguments.strict and missed) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of: {', '.join(ROWS)}")
    parser.add_argument("--pairs", type=int, default=10, help="interleaved pairs of each row")
    parser.add_argument("--strict", action="store_true", help="fail where a bound is missed")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if arguments.pairs < 1:
        parser.error("--pairs must be 1 or more")
    if os.geteuid() != 0:
        parser.error("this makes network namespaces and needs root")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
