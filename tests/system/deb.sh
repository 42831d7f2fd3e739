#!/usr/bin/env bash
# The package's life in a Debian that QEMU emulates: installed (active, healthy, as its own user), upgraded with everything kept, removed with
# everything kept, purged with nothing left. Prints a table.
#   tests/system/deb.sh [FILE.deb [OLDER.deb]]
#   FILE.deb     for this machine's architecture; else that of target/release-amd64 (.ci/release), else one made of HEARTHKEY with cargo-deb
#   OLDER.deb    the package before it; else the same one under an older version
#   BOOT_SECONDS how long all of it may take (1500)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
readonly RIG=tests/system/boot LIMIT=${BOOT_SECONDS:-1500}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}
if [[ $# -gt 2 || ${1:-} == -* ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
PATH=$PATH:/usr/sbin:/sbin:$CACHE/hearthkey-release/tools/bin
arch=amd64 emulator=qemu-system-x86_64
missing=()
for need in qemu-system-x86:qemu-system-x86_64 mmdebstrap:mmdebstrap dpkg:dpkg-deb python3:python3 util-linux:setpriv e2fsprogs:mke2fs kmod:depmod; do
    if ! command -v "${need#*:}" >/dev/null; then missing+=("${need%%:*}"); fi
done
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "Not installed: ${missing[*]}. Run .ci/setup system, or apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 2
fi
# shellcheck source=tests/system/boot/box.sh
. "$RIG/box.sh"

# ---- The packages ----

if [[ -n ${1:-} ]]; then
    package=$1
elif package=$(compgen -G 'target/release-amd64/hearthkey_*_amd64.deb' | tail -n 1) && [[ -n $package ]]; then
    :
else
    if ! command -v cargo-deb >/dev/null; then
        version=$(sed -n 's/^readonly CARGO_DEB=\([0-9.]*\).*/\1/p' .ci/release)
        say "installing cargo-deb $version (minutes, once)"
        cargo install --quiet --locked --root "$CACHE/hearthkey-release/tools" "cargo-deb@$version"
    fi
    mkdir -p "$work/target/release"
    cp "${HEARTHKEY:-target/release/hearthkey}" "$work/target/release/hearthkey"
    CARGO_TARGET_DIR=$work/target cargo deb --quiet --fast --locked --no-build --no-strip --output "$work/made.deb" >/dev/null
    package=$work/made.deb
fi
[[ $(dpkg-deb --field "$package" Architecture) == "$arch" ]] || { echo "$package is not for $arch." >&2; exit 2; }
over=$work/over
install -D -m 0644 "$package" "$over/srv/new/hearthkey.deb"
if [[ -n ${2:-} ]]; then
    install -D -m 0644 "$2" "$over/srv/old/hearthkey.deb"
else
    # `~` is before everything.
    dpkg-deb --raw-extract "$package" "$work/older"
    sed -i 's/^Version: .*/&~before/' "$work/older/DEBIAN/control"
    mkdir -p "$over/srv/old"
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/older" "$over/srv/old/hearthkey.deb" >/dev/null
fi
if dpkg-deb --info "$package" templates >/dev/null 2>&1; then fail "the package asks questions"; fi
if command -v lintian >/dev/null; then
    lintian --allow-root --fail-on error --tag-display-limit 0 "$package" >"$work/lintian" || { cat "$work/lintian" >&2; fail "lintian finds errors"; }
    lintian="no error, $(grep -c '^W:' "$work/lintian" || true) warnings"
else
    lintian="not installed here"
fi

# ---- The box ----

image=$("$RIG/image.sh" "$arch" "$CACHE/hearthkey-boot")
root=$("$RIG/debian.sh" "$CACHE/hearthkey-boot")
say "the box: ${root##*/}"
install -D -m 0755 "$RIG/story-package" "$over/usr/local/bin/story"
install -D -m 0644 "$RIG/guest.sh" "$over/usr/local/lib/guest.sh"
install -D -m 0644 "$RIG/boot-story.service" "$over/etc/systemd/system/boot-story.service"
install -d "$over/etc/systemd/system/multi-user.target.wants"
ln -s ../boot-story.service "$over/etc/systemd/system/multi-user.target.wants/"
tar --create --owner=0 --group=0 --directory "$over" --file "$work/over.tar" usr etc srv
truncate --size=%1M "$work/over.tar"
cp --sparse=always "$root" "$work/disk"
boot package payload
ends
keep_figures

printf '\n| the package, %s, in Debian 12 emulated in software | |\n|---|---|\n' "$arch"
printf '| %s | %s |\n' \
    "versions" "$(figure versions)" \
    "lintian" "$lintian" \
    "what apt would install with it, from the archive" "$(figure brings) packages, it included" \
    "installed: until it is healthy" "$(figure install_s) s" \
    "upgraded: until it is healthy; owner, name, settings kept" "$(figure upgrade_s) s" \
    "removed, installed again" "the same hub" \
    "hearthkey-https.socket, hearthkey-http.socket enabled" "served at 443 and 80, without a capability" \
    "purged" "no file, no unit; the user stays"
printf '\n'
say "PASSED"
