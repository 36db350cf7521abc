#!/bin/bash
# Installs ramfw: a virtual environment of its own below /usr/lib/ramfw, made of locked requirements
# by hash, the command, units, man pages, completions, and where there is none a first policy in
# audit mode. Run again it upgrades in place: the new environment is made beside the old one and
# takes its place in one step, and the rules stay in the kernel all the time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source install/places.sh

python=/usr/bin/python3
binding=/usr/lib/python3/dist-packages/nftables
((EUID == 0)) || { echo "install: only root can: sudo make install" >&2; exit 1; }
for needed in "$python" "$binding"; do
    [[ -e $needed ]] ||
        { echo "install: $needed is missing: apt-get install python3-nftables python3-venv" >&2; exit 1; }
done

umask 022
mkdir --parents "$home"
exec 9<"$home"
flock 9 # one at a time
work=$(mktemp --directory)
trap 'rm --recursive --force "$work"' EXIT
trap 'exit 1' HUP INT TERM
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

# -- the package, built from this tree ---------------------------------------------------------
echo "install: building"
"$python" -m venv "$work/build"
"$work/build/bin/pip" --quiet install --require-hashes --only-binary :all: --no-deps \
    -r requirements-build.txt
# What the wheel is made of, copied: nothing is written into this tree, whoever owns it.
mkdir "$work/tree"
cp --recursive --no-preserve=ownership pyproject.toml README.md LICENSE ramfw "$work/tree"
find "$work/tree" -name __pycache__ -prune -exec rm --recursive {} +
SOURCE_DATE_EPOCH=315532800 "$work/build/bin/pip" --quiet wheel --no-index --no-build-isolation \
    --no-deps --wheel-dir "$work" "$work/tree"
wheel=$(echo "$work"/ramfw-*.whl)

# -- its environment ---------------------------------------------------------------------------
# Named after its contents; a name is never filled twice, so what runs is never changed.
made_of=$({ "$python" --version && cat requirements.txt install/install.sh "$wheel"; } | sha256sum)
new=$home/${made_of:0:12}
if [[ ! -e $new/complete ]]; then
    rm --recursive --force "$new" # half made, by a run that was cut short
    "$python" -m venv "$new"
    "$new/bin/pip" --quiet install --require-hashes --only-binary :all: --no-deps -r requirements.txt
    "$new/bin/pip" --quiet install --no-index --no-deps "$wheel"
    # The binding must be of the system's libnftables, so it is Debian's; no other Debian package
    # is shown.
    ln --symbolic "$binding" \
        "$("$new/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"
    # The user that runs it cannot write here: compiled ahead.
    "$new/bin/python" -m compileall -q "$new/lib"
    "$new/bin/ramfw" --version >/dev/null
    touch "$new/complete"
fi

# -- what stands around it ---------------------------------------------------------------------
echo "install: placing ramfw in $home"
place() { install -D --mode="${3:-644}" "$1" "$2.new" && mv --no-target-directory "$2.new" "$2"; }
for unit in systemd/system/{engines.slice,ramfw*}; do
    place "$unit" "$units/$(basename "$unit")"
done
for engine in "${engines[@]}"; do
    place systemd/system/engine.conf "$units/$engine.service.d/ramfw.conf"
done
place systemd/system/user-manager.conf "$units/user@.service.d/ramfw.conf"
for names in systemd/sysusers.d/*.conf; do
    place "$names" "/usr/lib/sysusers.d/$(basename "$names")"
done
place systemd/tmpfiles.d/ramfw.conf /usr/lib/tmpfiles.d/ramfw.conf
place install/keep-slice "$home/keep-slice" 755
place install/boot "$home/boot" 755
place install/wsl-boot "$home/wsl-boot" 755
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers /usr/lib/sysusers.d/ramfw{,-explainer}.conf
else
    for user in "${users[@]}"; do
        getent passwd "$user" >/dev/null || useradd --system --user-group --no-create-home \
            --home-dir /var/lib/ramfw --shell /usr/sbin/nologin "$user"
    done
fi
install --directory --owner=ramfw --group=ramfw --mode=755 /var/lib/ramfw
if [[ ! -e /etc/ramfw/policy.toml ]]; then
    cp install/policy.toml "$work/policy.toml"
    # On WSL2 the distribution itself is what pulls, and its kernels may not tell engines apart.
    ! is_wsl || printf '\n[scopes.host]\nmode = "strict"\n' >>"$work/policy.toml"
    place "$work/policy.toml" /etc/ramfw/policy.toml
fi

ln --symbolic --force --no-target-directory "$(basename "$new")" "$home/current.new"
mv --no-target-directory "$home/current.new" "$home/current"
ln --symbolic --force --no-target-directory "$home/current/bin/ramfw" "$command"

"$work/build/bin/pip" --quiet install --no-index --no-deps "$wheel"
"$work/build/bin/click-man" ramfw --target "$work/man" --man-version "$("$command" --version)"
rm --force "$manuals"/ramfw{,-*}.1
for page in "$work"/man/*.1; do place "$page" "$manuals/$(basename "$page")"; done
while read -r shell path; do
    _RAMFW_COMPLETE=${shell}_source "$command" >"$work/completion"
    place "$work/completion" "$path"
done <<END
bash /usr/share/bash-completion/completions/ramfw
zsh /usr/share/zsh/vendor-completions/_ramfw
fish /usr/share/fish/vendor_completions.d/ramfw.fish
END

# -- into service ------------------------------------------------------------------------------
if command -v systemctl >/dev/null; then systemctl --quiet enable "${services[@]}"; fi
if booted; then
    systemd-tmpfiles --create /usr/lib/tmpfiles.d/ramfw.conf
    systemctl daemon-reload
    systemctl start ramfw-boot.service
    # The daemon that ends leaves its rules to the one that starts.
    systemctl restart ramfw.service
    systemctl start ramfw-canary.timer ramfw-{explainer,signer,prober}.socket
    systemctl try-restart ramfw-{explainer,signer,prober}.service
fi
find "$home" -mindepth 1 -maxdepth 1 -type d ! -name "$(basename "$new")" -exec rm --recursive {} +
echo "install: $("$command" --version) is installed; its policy is /etc/ramfw/policy.toml"
if is_wsl && ! booted; then
    echo "install: WSL2 without systemd: run: sudo ramfw wsl install"
elif ! booted; then
    echo "install: systemd is not at work here: it begins at the next boot"
fi
booted && for engine in "${engines[@]}"; do
    # It moves into the slice when it starts anew, which is the administrator's to choose.
    if [[ $(systemctl show --value --property=ControlGroup "$engine.service") == /system.slice/* ]]; then
        echo "install: $engine runs outside engines.slice until: systemctl restart $engine"
    fi
done
exit 0
