#!/bin/bash
# Fuzzes every decoder for SECONDS_EACH seconds (60). Ends with an error at the first broken promise.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=.venv/bin/python
if ! "$python" -c 'import sys, platform
sys.exit(not ((3, 11) <= sys.version_info < (3, 14) and platform.machine() == "x86_64"))'; then
    echo "fuzz: atheris has no wheel for $("$python" --version) on $(uname -m): nothing is fuzzed" >&2
    exit 1
fi
# In a folder of its own: the tests run with the locked requirements and nothing else.
"$python" -m pip --quiet --disable-pip-version-check install --require-hashes --only-binary :all: \
    --no-deps --upgrade --target .venv/fuzz -r tests/fuzz/requirements.txt

for target in $("$python" -c 'from tests.fuzz.targets import TARGETS; print(*TARGETS)'); do
    echo "=== fuzz $target"
    PYTHONPATH=.venv/fuzz "$python" -m tests.fuzz "$target" \
        -max_total_time="${SECONDS_EACH:-60}" -max_len=2048 -timeout=5 -print_final_stats=1 -verbosity=0
done
