#!/usr/bin/env bash
# Builds the root of a small Debian in which packages can be installed: dpkg has configured everything, and apt knows what the archive has, so that
# it can resolve dependencies without a network. Prints the file; it is kept for a week, as the lists age. For this machine's architecture alone.
#   tests/system/boot/debian.sh CACHE-DIRECTORY
set -euo pipefail
cache=${1:?usage: debian.sh CACHE-DIRECTORY}
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
readonly SUITE=bookworm
readonly PACKAGES=systemd-sysv,systemd,udev,dbus,procps,curl,kmod,libnss-systemd,network-manager

image=$cache/debian-$SUITE-$(sha256sum <"$here/debian.sh" | cut -c1-16).ext4
if [[ -s $image && -z $(find "$image" -mtime +7) ]]; then
    echo "$image"
    exit 0
fi
mkdir -p "$cache"
building=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$building"' EXIT
chmod 0777 "$building"

# Runs with the root as "$1", in the namespace in which its files are root's; what is mounted in it stays out.
# shellcheck disable=SC2016
finish='set -eu
root=$1
printf "127.0.0.1 localhost hearthkey\n" >"$root/etc/hosts"
echo hearthkey >"$root/etc/hostname"
echo "/dev/vda / ext4 defaults,noatime 0 1" >"$root/etc/fstab"
for unit in systemd-firstboot.service systemd-timesyncd.service systemd-networkd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/locale/* "$root"/usr/share/man/*
mkdir "$root/tree"
tar --create --one-file-system --directory "$root" --exclude=./tree --exclude="./proc/*" --exclude="./sys/*" --exclude="./dev/*" --exclude="./run/*" \
    --exclude="./tmp/*" --exclude="./var/cache/apt/*" . | tar --extract --directory "$root/tree"
# mmdebstrap kept services from being started meanwhile.
rm -f "$root/tree/usr/sbin/policy-rc.d"
if [ -e "$root/tree/sbin/start-stop-daemon.REAL" ]; then mv "$root/tree/sbin/start-stop-daemon.REAL" "$root/tree/sbin/start-stop-daemon"; fi
rm "$root/tree/etc/apt/apt.conf.d/00mmdebstrap"
"$MKE2FS" -q -t ext4 -L root -E root_owner=0:0 -d "$root/tree" "$OUT/root.ext4" 1500M >/dev/null
rm -rf "$root/tree"'

export OUT=$building
MKE2FS=$(PATH=$PATH:/usr/sbin:/sbin command -v mke2fs)
export MKE2FS
mmdebstrap --quiet --format=null --variant=apt --include="$PACKAGES" --skip=cleanup/apt/lists --customize-hook="$finish" "$SUITE" /dev/null >&2
find "$cache" -mindepth 1 -maxdepth 1 -name 'debian-*.ext4' -delete
mv "$building/root.ext4" "$image"
echo "$image"
