#!/bin/sh
# boot.sh ROOT CONSOLE INIT: starts INIT (systemd, if not another) of ROOT as the first process of
# the namespaces that this runs in, as a container manager does
# (https://systemd.io/CONTAINER_INTERFACE). Only the network's part of /proc/sys can be written, as
# that is the machine's own; the rest is everybody's.
set -eu
root=$1 console=$2 init=$3

read_only() { mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"; }

mount -t proc -o nosuid,noexec,nodev proc "$root/proc"
read_only "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,rw "$root/proc/sys/net"
[ ! -e "$root/proc/sysrq-trigger" ] || read_only "$root/proc/sysrq-trigger"
mount -t sysfs -o nosuid,noexec,nodev sysfs "$root/sys"
mount -o remount,bind,ro "$root/sys"
mount -t cgroup2 -o nosuid,noexec,nodev cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
while read -r name major minor; do
    mknod --mode=666 "$root/dev/$name" c "$major" "$minor"
done <<'DEVICES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
DEVICES
mkdir "$root/dev/pts" "$root/dev/net"
mknod --mode=666 "$root/dev/net/tun" c 10 200
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5,nosuid,noexec devpts "$root/dev/pts"
ln --symbolic pts/ptmx "$root/dev/ptmx"
ln --symbolic /proc/self/fd "$root/dev/fd"
for number in 0 1 2; do
    ln --symbolic "/proc/self/fd/$number" "$root/dev/$(echo stdin stdout stderr | cut -d' ' -f$((number + 1)))"
done
touch "$root/dev/console"
mount --bind "$console" "$root/dev/console"
hostname machine

cd "$root"
pivot_root . mnt
# The clock, the kernel's modules and its log are everybody's.
exec chroot . setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog \
    sh -c 'umount --lazy /mnt && mount --make-rshared / && exec env --ignore-environment container=lab \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LANG=C.UTF-8 \
        "$0" </dev/console >/dev/console 2>&1' "$init"
