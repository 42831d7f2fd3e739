#!/usr/bin/env bash
# The system of the box, by the real RAUC: a private D-Bus, two slots that are files, a boot loader that is a script, a keyring made here. An owner
# brings bundles over the API: a good one (installed: the other slot holds its bytes), a stranger's, one for another machine, damaged and cut-off ones, an
# older one, one without room on the disk; RAUC is killed in the midst; the slot that was installed runs, or is fallen back from.
#   tests/system/rauc.sh
# Takes root (RAUC mounts bundles). Bundles are `plain`: a `verity` one is inspected, and installed where the kernel has dm-verity.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
if [[ $# -gt 0 ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
if [[ $EUID -ne 0 ]]; then
    echo "RAUC mounts bundles, which takes root: left out." >&2
    exit 0
fi
hearthkey=$(realpath "${HEARTHKEY:-target/release/hearthkey}")
work=$(mktemp -d)
bus='' rauc='' hub=''
end() { # pid: ends it, if it is one
    if [[ -n $1 ]] && kill "$1" 2>/dev/null; then wait "$1" 2>/dev/null || true; fi
}
finish() {
    end "$hub"
    end "$rauc"
    end "$bus"
    for at in "$work/mount/bundle" "$work/hub/system"; do
        if mountpoint -q "$at"; then umount "$at"; fi
    done
    rm -rf "$work"
}
trap finish EXIT
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    tail -n 20 "$work/rauc.log" "$work/hub.log" >&2 || true
    exit 1
}

# ---- The box ----

mkdir "$work"/{state,mount,slots,in}
for slot in a b; do truncate -s 48M "$work/slots/$slot"; done
echo A >"$work/state/primary"
echo A >"$work/state/booted"
cat >"$work/loader" <<SH
#!/bin/sh
case \$1 in
    get-primary) cat "$work/state/primary" ;;
    set-primary) echo "\$2" >"$work/state/primary" ;;
    get-state) cat "$work/state/state.\$2" 2>/dev/null || echo good ;;
    set-state) echo "\$3" >"$work/state/state.\$2" ;;
    get-current) cat "$work/state/booted" ;;
esac
SH
chmod +x "$work/loader"
for who in builder stranger; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 7300 -subj "/CN=$who" -keyout "$work/$who.key" -out "$work/$who.pem" 2>/dev/null
done
cat >"$work/system.conf" <<CONF
[system]
compatible=hearthkey-test
bootloader=custom
bundle-formats=plain verity
data-directory=$work/state
mountprefix=$work/mount
[handlers]
bootloader-custom-backend=$work/loader
[keyring]
path=$work/builder.pem
[slot.rootfs.0]
device=$work/slots/a
type=raw
bootname=A
[slot.rootfs.1]
device=$work/slots/b
type=raw
bootname=B
CONF
cat >"$work/bus.conf" <<XML
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=$work/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
XML
dbus-daemon --config-file="$work/bus.conf" --nofork --nopidfile >"$work/bus.log" 2>&1 &
bus=$!
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$work/bus DBUS_STARTER_BUS_TYPE=system

start_rauc() { # the slot that is said to run
    rauc --conf="$work/system.conf" --override-boot-slot="$(cat "$work/state/booted")" service >>"$work/rauc.log" 2>&1 &
    rauc=$!
}
boot() { # the box comes up in that slot
    end "$rauc"
    echo "$1" >"$work/state/booted"
    start_rauc
}
bundle() { # file signer compatible version format MiB
    rm -rf "$work/in"
    mkdir "$work/in"
    head -c "$6M" /dev/urandom >"$work/in/system.img"
    printf '[update]\ncompatible=%s\nversion=%s\n[bundle]\nformat=%s\n[image.rootfs]\nfilename=system.img\n' "$3" "$4" "$5" >"$work/in/manifest.raucm"
    rauc --cert="$work/$2.pem" --key="$work/$2.key" bundle "$work/in" "$work/$1.raucb" >/dev/null 2>&1
    cp "$work/in/system.img" "$work/$1.img"
}
for _ in $(seq 100); do if [[ -S $work/bus ]]; then break; fi; sleep 0.1; done
start_rauc

# ---- The hub ----

readonly PASSWORD='correct horse battery'
cat >"$work/hub.toml" <<TOML
data_dir = "$work/hub"
[https]
address = "127.0.0.1:18443"
[http]
enabled = false
[mqtts]
address = "127.0.0.1:0"
[mdns]
enabled = false
[bluetooth]
enabled = false
TOML
start_hub() {
    "$hearthkey" hub --config "$work/hub.toml" >>"$work/hub.log" 2>&1 &
    hub=$!
    local _
    for _ in $(seq 300); do
        if curl -sk -o /dev/null https://localhost:18443/api/v1/hub; then return; fi
        sleep 0.2
    done
    fail "the hub does not serve"
}
token=
call() { # method path [curl's arguments]: the answer, and its status in the last line
    local method=$1 path=$2
    shift 2
    curl -sk -X "$method" -H "Authorization: Bearer $token" -w '\n%{http_code}' "https://localhost:18443/api/v1$path" "$@" || true
}
post() { call POST "$1" -H 'Content-Type: application/json' -d "$2"; }
# By HTTP/1.1, curl asks first whether the file is wanted.
bring() { call POST /update/system/bundle --http1.1 -H 'Content-Type: application/octet-stream' --data-binary "@$work/$1.raucb"; }
expect() { # status text answer
    [[ ${3##*$'\n'} == "$1" ]] || fail "not $1: $3"
    [[ $3 == *"$2"* ]] || fail "'$2' is not said: $3"
}
until_said() { # text
    local _ said=''
    for _ in $(seq 120); do
        said=$(call GET /update/system)
        if [[ $said == *"$1"* ]]; then return; fi
        sleep 0.25
    done
    fail "'$1' was never said: $said"
}
nothing_left() {
    local found
    found=$(find "$work/hub/system" -name 'bundle.*')
    [[ -z $found ]] || fail "this is left: $found"
}
start_hub
code=$(sed -n 's/.*setup code[^0-9A-Z]*\([0-9A-Z][0-9A-Z-]*\).*/\1/Ip' "$work/hub.log" | head -n 1)
answer=$(post /setup "{\"code\": \"$code\", \"username\": \"olivia\", \"password\": \"$PASSWORD\"}")
token=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' <<<"$answer")
[[ -n $token ]] || fail "no owner: $answer"
expect 200 '"compatible":"hearthkey-test"' "$(call GET /update/system)"

printf -- '-- what is refused leaves nothing\n'
bundle good builder hearthkey-test 9.0.0 plain 8
bundle stranger stranger hearthkey-test 9.0.0 plain 1
bundle other builder another-box 9.0.0 plain 1
bundle older builder hearthkey-test 0.0.1 plain 1
bundle verity builder hearthkey-test 9.0.0 verity 1
head -c 3000000 "$work/good.raucb" >"$work/short.raucb"
cp "$work/good.raucb" "$work/flipped.raucb"
printf 'XXXX' | dd of="$work/flipped.raucb" bs=1 seek=5000 conv=notrunc status=none
head -c 5000 /dev/urandom >"$work/noise.raucb"
for which in stranger short flipped noise; do
    expect 409 "builder of this box" "$(bring "$which")"
    nothing_left
done
expect 409 "another machine" "$(bring other)"
nothing_left
expect 409 "bring one first" "$(post /update/system/install "{\"password\": \"$PASSWORD\"}")"
expect 201 '"version":"9.0.0"' "$(bring verity)"

printf -- '-- an older one only when that is said\n'
expect 201 '"age":"older"' "$(bring older)"
expect 409 "is older" "$(post /update/system/install "{\"password\": \"$PASSWORD\"}")"

printf -- '-- an upload that is cut off\n'
curl -sk --limit-rate 500K --max-time 2 -X POST -H "Authorization: Bearer $token" -H 'Content-Type: application/octet-stream' \
    --data-binary "@$work/good.raucb" https://localhost:18443/api/v1/update/system/bundle >/dev/null || true
until_said '"phase":"idle"'
nothing_left

printf -- '-- no room on the disk\n'
mount -t tmpfs -o size=70M,mode=0700 tmpfs "$work/hub/system"
expect 409 "no room" "$(bring good)"
umount "$work/hub/system"

printf -- '-- installed, restarted, stays\n'
expect 201 '"age":"newer"' "$(bring good)"
expect 422 "password" "$(post /update/system/install '{"password": "wrong"}')"
expect 202 '"phase"' "$(post /update/system/install "{\"password\": \"$PASSWORD\"}")"
until_said '"fate":"waits"'
nothing_left
cmp -n "$(stat -c %s "$work/good.img")" "$work/good.img" "$work/slots/b" || fail "slot B does not hold what was in the bundle"
post /update/system/restart "{\"password\": \"$PASSWORD\"}" >/dev/null
# There is nobody who restarts this box.
until_said "does not let the hub restart"
end "$hub"
boot B
start_hub
until_said '"fate":"stays"'
expect 200 '"version":"9.0.0"' "$(call GET /update/system)"

printf -- '-- not started: the way back is told\n'
bundle next builder hearthkey-test 9.1.0 plain 4
expect 201 '"age":"newer"' "$(bring next)"
expect 202 '"phase"' "$(post /update/system/install "{\"password\": \"$PASSWORD\"}")"
until_said '"fate":"waits"'
echo B >"$work/state/primary"
until_said '"fate":"fell_back"'

printf -- '-- RAUC is killed in the midst\n'
bundle large builder hearthkey-test 9.2.0 plain 40
expect 201 '"age":"newer"' "$(bring large)"
expect 202 '"phase"' "$(post /update/system/install "{\"password\": \"$PASSWORD\"}")"
for _ in $(seq 400); do if grep -q 'large\|installing.*bundle.raucb.*started' <(tail -n 30 "$work/rauc.log"); then break; fi; sleep 0.02; done
kill -KILL "$rauc"
wait "$rauc" 2>/dev/null || true
if mountpoint -q "$work/mount/bundle"; then umount "$work/mount/bundle"; fi
start_rauc
until_said '"phase":"idle"'
nothing_left
said=$(call GET /update/system)
if [[ $said != *"in the midst"* ]]; then fail "that it was cut off is not said: $said"; fi
expect 201 '"age":"newer"' "$(bring large)"
expect 202 '"phase"' "$(post /update/system/install "{\"password\": \"$PASSWORD\"}")"
until_said '"fate":"waits"'

audit=$(call GET '/audit?limit=100')
for action in bundle install restart end; do
    grep -q "hub.system.$action" <<<"$audit" || fail "the audit has no hub.system.$action"
done
printf 'The system of the box, by %s: passed\n' "$(rauc --version)"
