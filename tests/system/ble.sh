#!/usr/bin/env bash
# Pairing through a real BlueZ, without a radio: a guest, emulated in software, with two virtual Bluetooth controllers, the
# hub on one and a device on the other, both this program. See tests/system/ble/README.md.
#   tests/system/ble.sh [--wrong-code | --drop-at=STEP | --improv]
#   HEARTHKEY=PROGRAM  what is tested; built with --release when not given. It needs the feature `sim`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
readonly RIG=tests/system/ble WORK=$PWD/target/rigs/ble-vm SECONDS_AT_MOST=${BLE_SECONDS:-900}
begun=$SECONDS

say() {
    printf '%4d s  %s\n' $((SECONDS - begun)) "$*"
}

if [[ $# -gt 1 || ! ${1:-} =~ ^(|--wrong-code|--drop-at=[a-z-]+|--improv)$ ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
if [[ $(uname -sm) != "Linux x86_64" ]]; then
    echo "The guest is Debian for x86-64 and runs programs of this machine, which is $(uname -sm)." >&2
    exit 2
fi
missing=()
for need in qemu-system-x86:qemu-system-x86_64 mmdebstrap:mmdebstrap python3:python3 binutils:strip util-linux:setpriv; do
    if ! command -v "${need#*:}" >/dev/null; then missing+=("${need%%:*}"); fi
done
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "Not installed: ${missing[*]}. Run .ci/setup system, or apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 2
fi

image=$("$RIG/image.sh" "$WORK")
say "the guest: ${image##*/}"

program=${HEARTHKEY:-}
if [[ -z $program ]]; then
    cargo build --release --locked --features sim --quiet
    program=target/release/hearthkey
fi
CARGO_TARGET_DIR=$WORK/improv cargo build --release --locked --quiet --manifest-path "$RIG/improv/Cargo.toml"
say "the programs: $program and the peer that speaks Improv"

overlay=$(mktemp -d)
guest=
# Called by the trap.
# shellcheck disable=SC2317,SC2329
tidy() {
    if [[ -n $guest ]] && kill -TERM "$guest" 2>/dev/null; then wait "$guest" || true; fi
    rm -rf "$overlay"
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir "$overlay/rig"
cp "$RIG/init" "$overlay/init"
cp "$RIG/bus.conf" "$RIG/hub.toml" "$RIG/story.py" "$RIG/hub.py" "$overlay/rig/"
strip -o "$overlay/rig/hearthkey" "$program"
strip -o "$overlay/rig/improv-peer" "$WORK/improv/release/improv-peer"
printf '#!/bin/sh\nexec /usr/bin/python3 /rig/story.py %s\n' "${1:-}" >"$overlay/rig/story"
chmod 0755 "$overlay/init" "$overlay/rig/story"

say "booting (at most $SECONDS_AT_MOST s)"
status=0
setpriv --pdeathsig TERM "$RIG/vm.sh" "$image" "$overlay" "$SECONDS_AT_MOST" &
guest=$!
wait "$guest" || status=$?
guest=
case $status in
    0) say "PASSED" ;;
    10) say "the pairing failed, as it should with ${1:-}; both sides are as they were" ;;
    *) say "FAILED with $status" ;;
esac
exit "$status"
