#!/bin/bash
# fresh-root.sh SUITE TARGET...: runs `make TARGET...` twice in a fresh Debian (bookworm, trixie)
# that has nothing but make, on a copy of this tree, and removes it all again. Takes minutes, so it
# is no part of `make test`. KEEP=1 keeps the root and says where it is; ONCE=1 runs it once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

suite=${1:?which Debian, bookworm or trixie}
targets=("${@:2}")
((${#targets[@]})) || { echo "which targets of the Makefile?" >&2; exit 2; }
command -v debootstrap >/dev/null ||
    { echo "debootstrap is missing: run: apt-get install debootstrap" >&2; exit 1; }

root=$(mktemp --directory "${TMPDIR:-/var/tmp}/ramfw-$suite.XXXXXX")
chmod 755 "$root" # apt, su and the like look into it as other users
remove() {
    if [[ -n ${KEEP:-} ]]; then
        echo "fresh-root: kept in $root"
    else
        # Its mounts lived in a mount namespace that is gone: nothing of this machine is below it.
        rm --recursive --force --one-file-system "$root"
    fi
}
trap remove EXIT
trap 'exit 1' HUP INT TERM

echo "fresh-root: making Debian $suite in $root"
debootstrap --variant=minbase --include=make "$suite" "$root" ${MIRROR:+"$MIRROR"} >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; exit 1; }
rm "$root.log"

# The tree as it would be committed now: what git tracks or would track, with its present content.
mkdir "$root/srv/ramfw"
git ls-files --cached --others --exclude-standard -z |
    while IFS= read -r -d '' path; do [[ ! -e $path ]] || printf '%s\0' "$path"; done |
    tar --create --null --files-from=- | tar --extract --directory "$root/srv/ramfw" --no-same-owner

# The network is this machine's (apt and pip need it; the lab makes its own), with its names and
# the certificate authorities that its administrator added.
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
mkdir --parents "$root/usr/local/share/ca-certificates"
cp --recursive /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"

# A PID namespace of its own, so that nothing started in there outlives the run.
turns=(first second)
[[ -z ${ONCE:-} ]] || turns=(first)
for turn in "${turns[@]}"; do
    echo "fresh-root: make ${targets[*]}, the $turn time"
    SECONDS=0
    unshare --mount --pid --fork --kill-child --propagation private -- bash -euc '
        root=$1
        shift
        mount --bind "$root" "$root"
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/run"
        # Not chroot alone: who enters this mount namespace anew, as dockerd does, would land in
        # the machine that is outside.
        cd "$root"
        mkdir -p mnt
        pivot_root . mnt
        chroot . /usr/bin/env --ignore-environment HOME=/root LANG=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            bash -euc "umount --lazy /mnt
                make --no-print-directory --directory=/srv/ramfw \"\$@\"" - "$@" </dev/null
        exit # a command after chroot: the shell stays, as the one that reaps orphans
    ' - "$root" "${targets[@]}"
    echo "fresh-root: that took $SECONDS s"
done
