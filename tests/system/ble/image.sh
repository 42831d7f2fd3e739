#!/usr/bin/env bash
# Builds the guest's base from Debian packages: a kernel and a root filesystem (an initramfs), and prints the directory
# that holds `kernel` and `root.cpio`. What was built once is used again, until this file or the release changes.
#   tests/system/ble/image.sh CACHE-DIRECTORY
set -euo pipefail
cache=${1:?usage: image.sh CACHE-DIRECTORY}
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

# The guest runs programs that were linked here: its C library may not be older than this machine's.
readonly OLDEST=bookworm
suite=$OLDEST
if [[ -r /etc/os-release ]]; then
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && [[ ${ID:-} == debian ]] && echo "${VERSION_CODENAME:-$OLDEST}" || echo "$OLDEST")
fi

# Kernel and modules; BlueZ and its virtual controllers; the bus; a shell; what the story is written in.
readonly PACKAGES=linux-image-amd64,kmod,bluez,bluez-test-tools,dbus,busybox-static,python3
# Of 4,000 kernel modules these directories are kept.
readonly MODULES="net/bluetooth net/rfkill drivers/bluetooth crypto arch/x86/crypto lib"
readonly UNUSED="boot usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/lintian usr/share/bug usr/share/perl
    usr/share/perl5 usr/share/alsa usr/bin/perl usr/lib/x86_64-linux-gnu/perl usr/lib/x86_64-linux-gnu/perl-base
    usr/lib/x86_64-linux-gnu/gconv usr/lib/klibc usr/lib/udev lib/udev var/cache var/lib/apt"

key=$(sha256sum "$here/image.sh" | cut -c1-16)
image=$cache/$suite-$key
if [[ -s $image/kernel && -s $image/root.cpio ]]; then
    echo "$image"
    exit 0
fi

mkdir -p "$cache"
building=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$building"' EXIT

# Runs in the unpacked root, "$1".
# shellcheck disable=SC2016
trim='set -eu
root=$1
version=$(ls "$root/lib/modules" "$root/usr/lib/modules" 2>/dev/null | grep -m 1 "^[0-9]")
cp "$root/boot/vmlinuz-$version" "$root/kernel"
for directory in bin sbin lib lib64; do
    if [ ! -e "$root/$directory" ]; then ln -s "usr/$directory" "$root/$directory"; fi
done
kernel=$root/lib/modules/$version/kernel
mkdir "$kernel.kept"
for directory in $KEEP_MODULES; do
    mkdir -p "$kernel.kept/$(dirname "$directory")"
    mv "$kernel/$directory" "$kernel.kept/$directory"
done
rm -rf "$kernel"
mv "$kernel.kept" "$kernel"
for path in $REMOVE; do rm -rf "${root:?}/$path"; done
mkdir -p "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/root" "$root/var/lib/bluetooth" "$root/rig/bin"
rm -rf "$root/var/run"
ln -s /run "$root/var/run"
printf "root:x:0:0:root:/root:/bin/sh\n" >"$root/etc/passwd"
printf "root:x:0:\n" >"$root/etc/group"
printf "127.0.0.1 localhost\n" >"$root/etc/hosts"
if [ ! -e "$root/bin/sh" ]; then ln -s busybox "$root/bin/sh"; fi
chroot "$root" /sbin/depmod "$version"
chroot "$root" /bin/busybox --install -s /rig/bin
rm -rf "$root"/usr/lib/python3*/test "$root"/usr/lib/python3*/lib2to3 "$root"/usr/lib/python3*/idlelib
chroot "$root" /usr/bin/python3 -m compileall -q /usr/lib/python3.* >/dev/null
# The archive is written beside the root and then taken out of it.
cd "$root"
find . -path ./kernel -prune -o -path ./root.cpio -prune -o -path "./dev/*" -prune -o -print |
    /bin/sh -c "cd $root && chroot . /bin/busybox cpio -o -H newc" >root.cpio 2>/dev/null'

export KEEP_MODULES=$MODULES REMOVE=$UNUSED
mmdebstrap --quiet --format=null --variant=extract --include="$PACKAGES" \
    --extract-hook="$trim" \
    --extract-hook="download /kernel $building/kernel" \
    --extract-hook="download /root.cpio $building/root.cpio" \
    "$suite" /dev/null >&2

# What older versions of this file built is of no use any more.
find "$cache" -mindepth 1 -maxdepth 1 -type d ! -path "$building" -name '*-????????????????' -exec rm -rf {} +
chmod 0755 "$building"
mv "$building" "$image"
echo "$image"
