# Where things are installed; sourced by install.sh and uninstall.sh.
# shellcheck shell=bash disable=SC2034
home=/usr/lib/ramfw
command=/usr/bin/ramfw
units=/usr/lib/systemd/system
# Engines by the names of their services, wherever they come from.
engines=(docker containerd buildkit buildkitd crio podman snap.docker.dockerd)
services=(
    ramfw-boot.service ramfw.service ramfw-canary.timer
    ramfw-explainer.socket ramfw-signer.socket ramfw-prober.socket
)
users=(ramfw ramfw-explainer ramfw-signer ramfw-prober)
files=(
    "$units"/{engines.slice,ramfw-boot.service,ramfw.service}
    "$units"/ramfw-canary.{service,timer} "$units"/ramfw-{explainer,signer,prober}.{service,socket}
    /usr/lib/sysusers.d/ramfw{,-explainer}.conf /usr/lib/tmpfiles.d/ramfw.conf
    "$command"
    /usr/share/bash-completion/completions/ramfw
    /usr/share/zsh/vendor-completions/_ramfw
    /usr/share/fish/vendor_completions.d/ramfw.fish
)
manuals=/usr/share/man/man1

# Whether systemd is at work here: not in a chroot, and not in WSL without it.
booted() { [[ -d /run/systemd/system ]]; }

is_wsl() { grep --quiet --ignore-case microsoft /proc/version; }
