#!/bin/bash
# kernel.sh SUITE...: for each Debian (bookworm: Linux 6.1, trixie: 6.12), makes build/kernel/SUITE
# with its own kernel and, as an initramfs, a small root of its packages that runs ramfw. Packages
# are downloaded and unpacked there; none is installed on this machine. What is made is kept, and
# made again when this script or the locked requirements have changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/setup/made-once.sh

# iptables as on every machine with docker.io: with it nft 1.0.6 can list an xt target.
packages=linux-image-amd64,kmod,busybox-static,iproute2,nftables,iptables,python3,python3-nftables
# Of the kernel's modules those that networks are made of; the rest is drivers.
modules=(
    './boot/vmlinuz-*' '*/lib/modules/*/modules.*' '*/lib/modules/*/kernel/net/*'
    '*/lib/modules/*/kernel/lib/*' '*/lib/modules/*/kernel/crypto/*'
    '*/lib/modules/*/kernel/drivers/net/veth.ko*' '*/lib/modules/*/kernel/drivers/net/tun.ko*'
)
# What nothing here reads.
unread=(
    './usr/share/doc' './usr/share/man' './usr/share/locale' './usr/share/zoneinfo'
    '*/lib/udev' '*/lib/systemd' '*/lib/x86_64-linux-gnu/perl-base'
)

make_one() { # SUITE
    local root=$work/root debs=$work/debs deb directory
    mkdir --parents "$root/usr"/{bin,sbin,lib,lib64} "$root"/{dev,proc,sys,run,tmp,etc,root,srv/site}
    # As debootstrap does: packages of bookworm still bring files for both places.
    for directory in bin sbin lib lib64; do ln --symbolic "usr/$directory" "$root/$directory"; done

    logged debootstrap --download-only --variant=minbase --include="$packages" \
        "$1" "$debs" ${MIRROR:+"$MIRROR"}
    for deb in "$debs"/var/cache/apt/archives/*.deb; do
        local -a wanted=("${unread[@]/#/--exclude=}")
        [[ $deb != */linux-image-[0-9]* ]] || wanted=(--wildcards "${modules[@]}")
        dpkg-deb --fsys-tarfile "$deb" |
            tar --extract --directory="$root" --keep-directory-symlink "${wanted[@]}"
    done
    # What maintainer scripts would do, as far as it is needed here.
    cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
    cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    chroot "$root" depmod "$(basename "$root"/usr/lib/modules/*)"

    # Compiled ahead, since an emulated machine takes seconds for it.
    local -a for_python
    wheels_for "$1"
    logged .venv/bin/python -m pip install --no-compile --target "$root/srv/site" \
        "${for_python[@]}" -r requirements.txt
    logged chroot "$root" python3 -m compileall -q /usr/lib/python3 /usr/lib/python3.* /srv/site
    mv "$root"/boot/vmlinuz-* "$work/vmlinuz"
    (cd "$root" && find . -print0 | sort --zero-terminated |
        cpio --null --create --format=newc --quiet) >"$work/root.cpio"
    rm --recursive "$root" "$debs"
}

needs kernel debootstrap cpio
made_from=$(cat tests/setup/{kernel,made-once}.sh requirements.txt | sha256sum)
make_missing kernel build/kernel "$made_from" "kernel and a root for it" "$@"
