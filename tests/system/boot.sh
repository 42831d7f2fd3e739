#!/usr/bin/env bash
# A whole box, emulated in software: Debian's systemd starts the hub by the units of systemd/, the demo's tour runs in it, its power is cut while it
# writes, it starts again with everything it had acknowledged, takes a good update, and leaves a bad one. Prints a table.
#   tests/system/boot.sh [PROGRAM]
#   PROGRAM      built for this machine or, with qemu-system-aarch64, for arm64 (glibc, Debian 12's or older); else HEARTHKEY,
#                else target/release/hearthkey
#   BOOT_SECONDS how long one start may take with what happens in it (1500)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
readonly RIG=tests/system/boot CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/hearthkey-boot LIMIT=${BOOT_SECONDS:-1500}
# The power is cut after so many acknowledged writes.
readonly WRITES=40
# What the service may have, in MiB.
readonly MEMORY_MB=128

if [[ $# -gt 1 || ${1:-} == -* ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
program=${1:-${HEARTHKEY:-target/release/hearthkey}}
if [[ ! -x $program ]]; then
    echo "There is no program $program: build it (cargo build --release), or name one." >&2
    exit 2
fi
# The machine of an ELF file stands at its 18th byte.
case $(od -An -j18 -N2 -tu2 "$program" | tr -d ' ') in
    62) arch=amd64 emulator=qemu-system-x86_64 package=qemu-system-x86 strip=strip ;;
    183) arch=arm64 emulator=qemu-system-aarch64 package=qemu-system-arm strip=aarch64-linux-gnu-strip ;;
    *)
        echo "$program is neither for x86-64 nor for arm64." >&2
        exit 2
        ;;
esac
if ! command -v "$strip" >/dev/null; then strip=; fi
PATH=$PATH:/usr/sbin:/sbin
missing=()
for need in "$package:$emulator" mmdebstrap:mmdebstrap python3:python3 util-linux:setpriv e2fsprogs:mke2fs kmod:depmod; do
    if ! command -v "${need#*:}" >/dev/null; then missing+=("${need%%:*}"); fi
done
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "Not installed: ${missing[*]}. Run .ci/setup system, or apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 2
fi

# shellcheck source=tests/system/boot/box.sh
. "$RIG/box.sh"

image=$("$RIG/image.sh" "$arch" "$CACHE")
say "the box: ${image##*/}"

# ---- What is laid over the box: as the package installs it ----

over=$work/over
install -D -m 0755 "$program" "$over/usr/bin/hearthkey"
if [[ -n $strip ]]; then "$strip" "$over/usr/bin/hearthkey"; fi
install -D -m 0644 systemd/hearthkey.service "$over/usr/lib/systemd/system/hearthkey.service"
install -D -m 0644 systemd/hearthkey.sysusers "$over/usr/lib/sysusers.d/hearthkey.conf"
install -D -m 0644 systemd/hearthkey.tmpfiles "$over/usr/lib/tmpfiles.d/hearthkey.conf"
install -D -m 0644 systemd/hearthkey.dbus.conf "$over/usr/share/dbus-1/system.d/hearthkey.conf"
install -D -m 0644 systemd/hub.toml "$over/etc/hearthkey/hub.toml"
# Half of what the unit allows, as on the smallest boxes: whatever happens below has to happen in it.
install -d "$over/etc/systemd/system/hearthkey.service.d"
printf '[Service]\nMemoryHigh=infinity\nMemoryMax=%sM\n' "$MEMORY_MB" >"$over/etc/systemd/system/hearthkey.service.d/memory.conf"
# The box has no clock that is kept, and no server to ask.
printf '\n[clock]\ntrusted = true\n' >>"$over/etc/hearthkey/hub.toml"
install -D -m 0755 "$RIG/story" "$over/usr/local/bin/story"
install -D -m 0644 "$RIG/guest.sh" "$over/usr/local/lib/guest.sh"
install -D -m 0644 "$RIG/boot-story.service" "$over/etc/systemd/system/boot-story.service"
install -d "$over/etc/systemd/system/multi-user.target.wants"
ln -s /usr/lib/systemd/system/hearthkey.service "$over/etc/systemd/system/multi-user.target.wants/"
ln -s ../boot-story.service "$over/etc/systemd/system/multi-user.target.wants/"
# `/lib` and its like are links in the box, and may not become directories.
tar --create --owner=0 --group=0 --directory "$over" --file "$work/over.tar" usr etc
truncate --size=%1M "$work/over.tar"
cp --sparse=always "$image/root.ext4" "$work/disk"

say "first start: the hub's unit, its owner, the tour"
boot first payload
ends
keep_figures

say "second start: the power is cut while the hub writes"
boot cut
await "^ACK $WRITES\$"
# At any moment, and not just after an answer.
sleep "0.$((RANDOM % 1000))"
kill -KILL "$guest"
wait "$guest" 2>/dev/null || true
guest=
acknowledged=$(seen '^ACK ' | sed 's/^ACK //')
cp --sparse=always "$work/disk" "$work/after-cut"
repaired=0
e2fsck -fp "$work/after-cut" >"$work/fsck" 2>&1 || repaired=$?
if [[ $repaired -gt 1 ]]; then
    cat "$work/fsck" >&2
    fail "the file system does not come back by its journal alone (e2fsck: $repaired)"
fi
rm "$work/after-cut"
say "cut after write $acknowledged; the file system comes back by its journal"

say "third start: everything acknowledged is there; a good update, a bad one"
boot again
ends
keep_figures
kept=$(figure kept)
if [[ ! $kept =~ ^[0-9]+$ || $kept -lt $acknowledged ]]; then
    fail "write $acknowledged was acknowledged, and ${kept:-nothing} is there"
fi
e2fsck -fn "$work/disk" >"$work/fsck" 2>&1 || { cat "$work/fsck" >&2; fail "the file system is damaged after the last start"; }

exposure=$(figure exposure)
if ! awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure <= 1.5) }'; then fail "the unit's exposure is '$exposure'; 1.5 is the most"; fi

printf '\n| %s, 2 processors emulated in software, 1 GB | |\n|---|---|\n' "$arch"
printf '| %s | %s |\n' \
    "exposure (systemd-analyze security)" "$exposure of 10; no capability, as the user $(figure user)" \
    "hub: from its start to serving, new / after the cut" "$(figure start_ms) ms / $(figure start_after_cut_ms) ms" \
    "box: from the kernel to serving" "$(figure boot_to_serving_ms) ms" \
    "memory of the service (supervisor and hub), which may have $MEMORY_MB MB: resident, with its files, at its peak" \
    "$(($(figure resident_kb) / 1024)) MB, $(($(figure memory_kb) / 1024)) MB, $(($(figure memory_peak_kb) / 1024)) MB" \
    "the tour (demo --tour), all steps" "$(figure tour_s) s" \
    "power cut while writing: acknowledged / there" "$acknowledged / $kept; the file system and the audit hold" \
    "a good update: until it stays" "$(figure update_s) s" \
    "a bad update: until the version before serves" "$(figure roll_back_s) s, $(figure restarts) restarts of the service" \
    "memory at its peak, with both updates" "$(($(figure update_peak_kb) / 1024)) MB"
printf '\n'
say "PASSED"
