#!/bin/bash
# side_by_side.sh [PYTEST-OPTION...]: runs the machine tests, those of each Debian in a process of
# its own, both at a time: most of what they do is waiting. Says what each said when it has ended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

declare -A running=()
end_running() {
    local pid
    for pid in "${running[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
    wait
    exit 1
}
trap end_running HUP INT TERM
set -m # each is a process group: it ends its own machines, which no signal is to reach before
for suite in bookworm trixie; do
    .venv/bin/python -m pytest tests/machine --debian "$suite" "$@" \
        </dev/null >"build/machine/$suite.txt" 2>&1 &
    running[$suite]=$!
done
set +m

failed=0
for suite in bookworm trixie; do
    wait "${running[$suite]}" || failed=1
    cat "build/machine/$suite.txt"
done
exit "$failed"
