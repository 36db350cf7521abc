#!/bin/bash
# Makes .venv from the locked requirements, with ramfw itself in it, editable. It is made again
# when what it was made from has changed, and left alone (in well under a second) when not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=/usr/bin/python3
binding=/usr/lib/python3/dist-packages/nftables
for needed in "$python" "$binding"; do
    if [[ ! -e $needed ]]; then
        echo "venv: $needed is missing: run: make packages (as root)" >&2
        exit 1
    fi
done

if [[ -L .venv ]]; then
    echo "venv: .venv is a link, and what it leads to would be cleared: rm .venv" >&2
    exit 1
fi

exec 9<pyproject.toml
flock 9 # one at a time

# Contents, not times: a fresh clone has new times. A venv also holds its own path and its Python.
fingerprint() {
    { "$python" --version && pwd && cat "$@"; } | sha256sum
}
made_from=$(fingerprint requirements-dev.txt tests/setup/venv.sh)
project_from=$(fingerprint pyproject.toml)

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
pip=(.venv/bin/python -m pip --quiet)

if [[ $(cat .venv/.made-from 2>/dev/null) != "$made_from" ]]; then
    echo "venv: making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
    "${pip[@]}" install --require-hashes --only-binary :all: --no-deps -r requirements-dev.txt
    # The binding must be of the system's libnftables, so it is Debian's. Only this one package is
    # shown: --system-site-packages would let any other Debian package stand in for a locked one.
    ln -s "$binding" "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
    echo "$made_from" >.venv/.made-from
fi
if [[ $(cat .venv/.project-from 2>/dev/null) != "$project_from" ]]; then
    # hatchling is among the locked requirements: nothing is fetched here.
    "${pip[@]}" install --no-index --no-build-isolation --no-deps --editable .
    "${pip[@]}" check
    echo "$project_from" >.venv/.project-from
fi
