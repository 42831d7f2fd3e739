#!/usr/bin/env bash
# Builds the base of a small Debian box, for amd64 or arm64: a kernel, an initramfs and a root filesystem with systemd, and prints the directory
# that holds `kernel`, `initrd` and `root.ext4`. Packages are unpacked and not configured, so nothing of another architecture is run here. What
# was built once is used again, until this file, `init` or the release changes.
#   tests/system/boot/image.sh amd64|arm64 CACHE-DIRECTORY
set -euo pipefail
arch=${1:?usage: image.sh amd64|arm64 CACHE-DIRECTORY} cache=${2:?usage: image.sh amd64|arm64 CACHE-DIRECTORY}
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

# The guest runs a program that was linked here: its C library may not be older than this machine's.
readonly OLDEST=bookworm
suite=$OLDEST
if [[ -r /etc/os-release ]]; then
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && [[ ${ID:-} == debian ]] && echo "${VERSION_CODENAME:-$OLDEST}" || echo "$OLDEST")
fi
readonly PACKAGES=base-files,base-passwd,linux-image-$arch,kmod,systemd-sysv,systemd,udev,dbus,busybox-static,bash,dash,coreutils,sed,grep,util-linux,mount,procps,curl,ca-certificates,tzdata,libnss-systemd
readonly UNUSED="boot usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug usr/share/perl
    usr/share/perl5 usr/bin/perl var/cache var/lib/apt etc/initramfs-tools usr/share/initramfs-tools"

key=$(cat "$here/image.sh" "$here/init" "$here/../ble/pack.py" | sha256sum | cut -c1-16)
image=$cache/$arch-$suite-$key
if [[ -s $image/kernel && -s $image/initrd && -s $image/root.ext4 ]]; then
    echo "$image"
    exit 0
fi
mkdir -p "$cache"
building=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$building"' EXIT

# Runs with the unpacked root as "$1", in the namespace in which its files are root's.
# shellcheck disable=SC2016
finish='set -eu
root=$1
version=$(ls "$root/lib/modules" "$root/usr/lib/modules" 2>/dev/null | grep -m 1 "^[0-9]")
for directory in bin sbin lib lib64; do
    if [ ! -e "$root/$directory" ] && [ -e "$root/usr/$directory" ]; then ln -s "usr/$directory" "$root/$directory"; fi
done
cp "$root/boot/vmlinuz-$version" "$root/kernel"

# The initramfs: busybox, the modules for a disk with ext4, and its first program.
early=$root/early
mkdir -p "$early/bin" "$early/dev" "$early/proc" "$early/sys" "$early/root" "$early/lib/modules/$version/kernel"
cp "$root/bin/busybox" "$early/bin/busybox"
cp "$INIT" "$early/init"
chmod 0755 "$early/init"
for directory in drivers/virtio drivers/block fs/ext4 fs/jbd2 fs/mbcache.ko lib crypto arch/arm64/crypto arch/x86/crypto; do
    for found in "$root/lib/modules/$version/kernel/$directory" "$root/lib/modules/$version/kernel/$directory".*; do
        if [ -e "$found" ]; then
            mkdir -p "$early/lib/modules/$version/kernel/$(dirname "$directory")"
            cp -r "$found" "$early/lib/modules/$version/kernel/$(dirname "$directory")/"
        fi
    done
done
cp "$root/lib/modules/$version/modules.builtin" "$root/lib/modules/$version/modules.order" "$early/lib/modules/$version/"
"$DEPMOD" -b "$early" "$version" 2>/dev/null
python3 "$PACK" "$early" >"$root/initrd"
rm -rf "$early" "${root:?}/lib/modules"

for path in $REMOVE; do rm -rf "${root:?}/$path"; done
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/root" "$root/var/lib" "$root/var/log"
rm -rf "$root/var/run" "$root/var/lock"
ln -s /run "$root/var/run"
if [ ! -e "$root/bin/sh" ]; then ln -s dash "$root/bin/sh"; fi
# What the maintainers scripts would have made.
cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
printf "messagebus:x:101:101::/nonexistent:/usr/sbin/nologin\n" >>"$root/etc/passwd"
printf "messagebus:x:101:\n" >>"$root/etc/group"
cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
printf "passwd: files systemd\ngroup: files systemd\nhosts: files dns\n" >"$root/etc/nsswitch.conf"
printf "127.0.0.1 localhost hearthkey\n" >"$root/etc/hosts"
echo hearthkey >"$root/etc/hostname"
echo "/dev/vda / ext4 defaults,noatime 0 1" >"$root/etc/fstab"
echo 5e1f0c0ffee05e1f0c0ffee05e1f0c0f >"$root/etc/machine-id"
for unit in systemd-firstboot systemd-timesyncd systemd-networkd apt-daily.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit$(case $unit in *.timer) ;; *) echo .service ;; esac)"
done
mv "$root/kernel" "$root/initrd" "$OUT/" 2>/dev/null || { cp "$root/kernel" "$root/initrd" "$OUT/"; rm "$root/kernel" "$root/initrd"; }
# Without what is mounted in it meanwhile.
tree=$root/tree
mkdir "$tree"
for entry in "$root"/* "$root"/.[!.]*; do
    case ${entry##*/} in
        tree | proc | sys | dev | run | tmp) ;;
        *) if [ -e "$entry" ] || [ -L "$entry" ]; then mv "$entry" "$tree/"; fi ;;
    esac
done
mkdir "$tree/proc" "$tree/sys" "$tree/dev" "$tree/run"
mkdir -m 1777 "$tree/tmp"
"$MKE2FS" -q -t ext4 -L root -E root_owner=0:0 -d "$tree" "$OUT/root.ext4" 1200M >/dev/null
# mmdebstrap tidies up in it.
rmdir "$tree/proc" "$tree/sys" "$tree/dev" "$tree/run" "$tree/tmp"
mv "$tree"/* "$root/"'

export REMOVE=$UNUSED INIT=$here/init PACK=$here/../ble/pack.py OUT=$building
DEPMOD=$(PATH=$PATH:/usr/sbin:/sbin command -v depmod) MKE2FS=$(PATH=$PATH:/usr/sbin:/sbin command -v mke2fs)
export DEPMOD MKE2FS
chmod 0777 "$building"
mmdebstrap --quiet --format=null --variant=extract --architectures="$arch" --include="$PACKAGES" --extract-hook="$finish" "$suite" /dev/null >&2

find "$cache" -mindepth 1 -maxdepth 1 -type d ! -path "$building" -name "$arch-*-????????????????" -exec rm -rf {} +
chmod 0755 "$building"
mv "$building" "$image"
trap - EXIT
echo "$image"
