#!/bin/bash
# Takes off what install.sh put here, and what ramfw made since: rules, state, user and policy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source install/places.sh

((EUID == 0)) || { echo "uninstall: only root can: sudo make uninstall" >&2; exit 1; }

policy=/etc/ramfw/policy.toml
if [[ -e $policy ]] && ! cmp --quiet "$policy" install/policy.toml; then
    echo "uninstall: the policy that is removed was:"
    sed 's/^/    /' "$policy"
fi
if booted; then
    systemctl --quiet stop ramfw-canary.{timer,service} ramfw-{explainer,signer,prober}.{socket,service} \
        ramfw.service 2>/dev/null || true
fi
if command -v systemctl >/dev/null; then
    systemctl --quiet disable "${services[@]}" 2>/dev/null || true
fi
if [[ -x $command ]]; then
    "$command" wsl uninstall >/dev/null || true
    "$command" unload || true
fi
for unit in "${engines[@]}" user@; do
    rm --force "$units/$unit.service.d/ramfw.conf"
    rmdir --ignore-fail-on-non-empty "$units/$unit.service.d" 2>/dev/null || true
done
rm --force "${files[@]}" "$manuals"/ramfw{,-*}.1
rm --recursive --force "$home" /var/lib/ramfw /run/ramfw /etc/ramfw /var/log/ramfw.log{,.1}
if booted; then
    systemctl daemon-reload
    # Its file is gone, and with it what kept it from being stopped.
    systemctl --quiet stop ramfw-boot.service 2>/dev/null || true
    systemctl --quiet reset-failed 'ramfw*' 2>/dev/null || true
fi
for slice in /sys/fs/cgroup{,/unified}/engines.slice; do
    [[ ! -d $slice ]] || rmdir "$slice" 2>/dev/null ||
        echo "uninstall: engines stay in $slice until they are started again"
done
for user in "${users[@]}"; do
    if getent passwd "$user" >/dev/null; then userdel "$user"; fi
    if getent group "$user" >/dev/null; then groupdel "$user"; fi
done
echo "uninstall: ramfw is off this machine; nothing is enforced"
