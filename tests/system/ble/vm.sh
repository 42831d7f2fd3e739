#!/usr/bin/env bash
# Boots the guest of image.sh with a directory laid over its root, shows what it says, and ends with its status;
# 124 when it took too long, 125 when it died without a verdict. No emulator outlives this script.
#   tests/system/ble/vm.sh IMAGE-DIRECTORY OVERLAY-DIRECTORY SECONDS
set -euo pipefail
if [[ $# -ne 3 ]]; then
    echo "usage: vm.sh IMAGE-DIRECTORY OVERLAY-DIRECTORY SECONDS" >&2
    exit 2
fi
image=$1 overlay=$2 limit=$3

work=$(mktemp -d)
emulator=
# Called by the trap.
# shellcheck disable=SC2317,SC2329
tidy() {
    if [[ -n $emulator ]] && kill -KILL "$emulator" 2>/dev/null; then wait "$emulator" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The kernel unpacks one archive after the other. Debian's own cpio is not needed: Python writes the few entries.
cp "$image/root.cpio" "$work/root.cpio"
python3 "$(dirname "${BASH_SOURCE[0]}")/pack.py" "$overlay" >>"$work/root.cpio"
: >"$work/console"

# Emulated in software: two processors, no network, no disk, no screen. It dies with this script, whatever becomes of that.
setpriv --pdeathsig KILL qemu-system-x86_64 \
    -machine pc -accel tcg,thread=multi -cpu max -smp 2 -m 1536 \
    -nodefaults -no-user-config -nic none -display none -monitor none -no-reboot \
    -serial "file:$work/console" -device isa-debug-exit,iobase=0xf4,iosize=0x04 \
    -kernel "$image/kernel" -initrd "$work/root.cpio" \
    -append "console=ttyS0 quiet loglevel=1 panic=-1 rdinit=/init" </dev/null &
emulator=$!

# Waited for in the background: so a signal is heeded at once.
timeout --foreground "$limit" tail -n +1 -s 0.2 -f --pid="$emulator" "$work/console" | sed -u 's/\r//g' &
wait "$!"
if kill -0 "$emulator" 2>/dev/null; then
    echo "The guest was not done within $limit s." >&2
    exit 124
fi
status=0
wait "$emulator" || status=$?
emulator=
# The debug port makes every verdict odd.
if [[ $((status % 2)) -eq 0 ]]; then
    echo "The guest died without a verdict (the emulator ended with $status)." >&2
    exit 125
fi
exit $((status / 2))
