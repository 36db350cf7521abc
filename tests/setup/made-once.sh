# made-once.sh: for scripts that make one directory below build for each Debian, as root and with
# debootstrap, and keep it until what it was made from has changed. To be sourced.
# shellcheck shell=bash

suite_names=(bookworm trixie)
work=

# The commands a script needs, by name, and nobody but root.
needs() { # SCRIPT COMMAND...
    local needed
    for needed in "${@:2}"; do
        command -v "$needed" >/dev/null ||
            { echo "$1: $needed is missing: run: make packages (as root)" >&2; exit 1; }
    done
    ((EUID == 0)) || { echo "$1: debootstrap and chroot need root" >&2; exit 1; }
}

# Run a command that has nothing to say unless it fails.
logged() { "$@" >"$work/log" 2>&1 || { tail --lines=20 "$work/log" >&2; return 1; }; }

# pip's options for wheels that a Debian's own Python can use, into the array `for_python`.
wheels_for() { # SUITE
    local version platform
    case $1 in bookworm) version=3.11 ;; *) version=3.13 ;; esac
    for_python=(
        --disable-pip-version-check --no-input --require-hashes --no-deps --only-binary :all:
        --implementation cp --python-version "$version" --platform any
    )
    for platform in manylinux2014 manylinux_2_17 manylinux_2_28 manylinux_2_34; do
        for_python+=(--platform "${platform}_$(uname -m)")
    done
}

# Call `make_one SUITE` for each suite that is not made yet, with $work as the directory to fill;
# side by side, each in a process group of its own, which ends with this script.
make_missing() { # SCRIPT DIRECTORY MADE-FROM WHAT SUITE...
    local script=$1 directory=$2 made_from=$3 what=$4 suite failed=0
    local -A making=()
    shift 4
    (($#)) || { echo "$script: which Debian, ${suite_names[*]}?" >&2; exit 2; }
    mkdir --parents "$directory"
    exec 9>"$directory/lock"
    flock 9 # one at a time
    set -m
    trap 'end_making' HUP INT TERM
    for suite in "$@"; do
        [[ $(cat "$directory/$suite/made-from" 2>/dev/null) != "$made_from" ]] || continue
        echo "$script: getting Debian $suite's $what"
        make_in_place "$suite" "$directory" "$made_from" </dev/null &
        making[$suite]=$!
    done
    set +m
    for suite in "${!making[@]}"; do
        wait "${making[$suite]}" || { echo "$script: Debian $suite's $what failed" >&2; failed=1; }
    done
    trap - HUP INT TERM
    return "$failed"
}

end_making() {
    local pid
    for pid in "${making[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
    wait
    exit 1
}

make_in_place() ( # SUITE DIRECTORY MADE-FROM
    set -e
    trap '[[ -z $work ]] || rm --recursive --force --one-file-system "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    work=$(mktemp --directory --tmpdir="$2" "$1.XXXXXX")
    chmod 755 "$work"
    make_one "$1"
    rm --force "$work/log"
    echo "$3" >"$work/made-from"
    rm --recursive --force --one-file-system "$2/$1"
    mv "$work" "$2/$1"
    work=
)
