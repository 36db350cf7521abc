#!/bin/bash
# Installs the Debian packages that ramfw, its tests and its demo need, and only those that are
# missing. Works on Debian 12 and 13; asks the network for nothing where nothing is missing.
# With the argument `bench`, what the benchmarks need is installed as well; with `runtime`, only
# what ramfw itself needs.
set -euo pipefail

packages=(
    # ramfw itself: the binding is Debian's, so that it fits the system's libnftables
    # (netbase has the names of protocols, without which nft 1.0 refuses rules)
    python3-venv python3-nftables nftables netbase
)
others=(
    iproute2 conntrack kmod procps ca-certificates
    # the lab: a real engine, real registries, a real DNS server, a real proxy, real clients
    docker.io iptables docker-registry dnsmasq-base tinyproxy-bin curl openssl busybox-static
    skopeo podman buildah git wget
    # a firewall that hosts have of their own
    ufw
    # Debian's own kernels, booted in emulation
    qemu-system-x86 debootstrap cpio
    # to check the Vagrantfile
    vagrant
    # small programs of the tests' own, compiled for each run
    gcc libc6-dev
)
[[ ${1:-} == runtime ]] || packages+=("${others[@]}")
if [[ ${1:-} == bench ]]; then
    # load generators: Debian's own, and what ours are made of
    packages+=(dnsperf iperf3 libssl-dev)
fi

installed() {
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

missing=()
for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
done
# Debian 13 has the docker command in packages of its own, also what it builds with; Debian 12 has
# all of it in docker.io.
if [[ ${1:-} != runtime ]]; then
    [[ -x /usr/bin/docker ]] || missing+=(docker-cli)
    [[ $(</etc/debian_version) == 12* ]] || installed docker-buildx || missing+=(docker-buildx)
fi

if ((${#missing[@]} == 0)); then
    echo "packages: all ${#packages[@]} are here"
    exit 0
fi
if ((EUID != 0)); then
    echo "packages: these are missing, and only root can install them: ${missing[*]}" >&2
    echo "packages: run: sudo make packages" >&2
    exit 1
fi

# A package's own script must not start its service: a dockerd in the machine's own network would
# add its rules there, and the lab starts engines of its own. An administrator's guard stays.
guard=/usr/sbin/policy-rc.d
mine='# put here by ramfw, tests/setup/packages.sh, while it installs packages'
remove_guard() {
    if grep --quiet --no-messages --fixed-strings --line-regexp "$mine" "$guard"; then
        rm "$guard"
    fi
}
remove_guard # one that a killed run left behind
trap remove_guard EXIT
trap 'exit 1' HUP INT TERM
if [[ ! -e $guard ]]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$mine" >"$guard"
    chmod 755 "$guard"
fi

export DEBIAN_FRONTEND=noninteractive
apt=(
    apt-get --quiet=2 --option Dpkg::Use-Pty=0
    --option DPkg::Lock::Timeout=300 --option Acquire::Retries=3
)
echo "packages: installing ${missing[*]}"
"${apt[@]}" update
available=()
for package in "${missing[@]}"; do
    if [[ $package == docker-cli ]] && ! apt-cache show docker-cli >/dev/null 2>&1; then
        continue # Debian 12: docker.io, missing too, brings the command
    fi
    available+=("$package")
done
"${apt[@]}" install --yes --no-install-recommends "${available[@]}" </dev/null
