#!/bin/bash
# provision.sh: makes a Debian 12 or 13 a machine with Docker Engine and ramfw, from this tree.
# The Vagrantfile runs it, and so do the machine tests. A second run changes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

((EUID == 0)) || { echo "provision: only root can: sudo $0" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
missing=()
command -v make >/dev/null || missing+=(make)
[[ -x /usr/sbin/dockerd ]] || missing+=(docker.io iptables)
# Debian 13 has the docker command in a package of its own.
[[ -x /usr/bin/docker ]] || missing+=(docker-cli)
if ((${#missing[@]})); then
    apt-get --quiet=2 update
    if ! apt-cache show docker-cli >/dev/null 2>&1; then missing=("${missing[@]/docker-cli/}"); fi
    # shellcheck disable=SC2068  an empty word, left by the line before, is to vanish
    apt-get --quiet=2 install --yes --no-install-recommends ${missing[@]}
fi
make install
# Into the engines' slice, where its first packet is filtered already.
for engine in containerd docker; do
    where=$(systemctl show --value --property=ControlGroup "$engine.service")
    [[ $where != /system.slice/* ]] || systemctl restart "$engine.service"
done
ramfw status --wait 30
