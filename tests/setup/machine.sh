#!/bin/bash
# machine.sh SUITE...: for each Debian (bookworm, trixie), makes build/machine/SUITE/root, a whole
# system with systemd and Docker for tests to boot, and the wheels that installing ramfw takes.
# What is made is kept, and made again when this script or the locked requirements have changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/setup/made-once.sh

packages=(
    systemd systemd-sysv dbus
    # what ramfw needs of Debian, and make to install it
    python3-venv python3-nftables nftables netbase iproute2 conntrack kmod procps ca-certificates
    make
    # an engine, and one more who changes rules
    docker.io iptables
    # others who filter; off, until a test turns one of them on
    firewalld ufw
    # a user's own engine, below a service manager of the user's
    rootlesskit slirp4netns uidmap dbus-user-session libpam-systemd
)

make_one() { # SUITE
    local root=$work/root include
    include=$(IFS=,; echo "${packages[*]}")
    # Debian 13 has the docker command in packages of its own, Debian 12 in docker.io.
    [[ $1 == bookworm ]] || include+=,docker-cli,docker-buildx
    logged debootstrap --variant=minbase --include="$include" "$1" "$root" ${MIRROR:+"$MIRROR"}
    rm --recursive "$root"/var/cache/apt/archives "$root"/var/lib/apt/lists

    # What installing ramfw takes: the machine has no way to fetch it.
    local -a for_python
    wheels_for "$1"
    logged .venv/bin/python -m pip download --dest "$root/srv/wheels" \
        "${for_python[@]}" -r requirements-build.txt
    printf '[global]\nno-index = true\nfind-links = /srv/wheels\n' >"$root/etc/pip.conf"

    # A machine that was booted before: an empty id would make systemd enable every unit there is.
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    echo machine >"$root/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 machine\n' >"$root/etc/hosts"
    logged chroot "$root" systemctl disable firewalld.service ufw.service
    # Nobody logs in at the console, and nothing is to be fetched.
    logged chroot "$root" systemctl mask console-getty.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
}

needs machine debootstrap
made_from=$(cat tests/setup/{machine,made-once}.sh requirements-build.txt | sha256sum)
make_missing machine build/machine "$made_from" "system" "$@"
