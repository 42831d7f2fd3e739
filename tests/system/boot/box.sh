# shellcheck shell=bash disable=SC2154
# A box in QEMU, emulated in software: sourced by the tests that start one. Wanted: `arch`, `emulator`, `image` (a directory with `kernel` and `initrd`)
# and LIMIT (seconds). Makes `work`, which goes at the end with the box; there the disk is `disk`, and what is laid over it `over.tar`.

begun=$SECONDS
say() {
    printf '%5d s  %s\n' $((SECONDS - begun)) "$*"
}
work=$(mktemp -d)
guest=
# Called by the trap.
# shellcheck disable=SC2317,SC2329
tidy() {
    if [[ -n $guest ]] && kill -KILL "$guest" 2>/dev/null; then wait "$guest" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
fail() {
    echo "FAILED: $*" >&2
    if [[ -s $work/console ]]; then tail -n "${BOOT_LINES:-60}" "$work/console" >&2; fi
    exit 1
}

# boot STORY [WORDS]: starts the box in the background. `cache=unsafe`: this machine itself is not cut off, so what the guest has written is in the file, and
# waiting for this machine's disk at each of the guest's syncs proves nothing.
boot() {
    : >"$work/console"
    local machine=()
    case $arch in
        # On a busy machine the emulated timer may be late, for which Linux would stop: it is told not to look.
        amd64) machine=(-machine q35 -cpu max -serial "file:$work/console" -append "console=ttyS0 no_timer_check root=/dev/vda rw panic=-1 quiet story=$*") ;;
        arm64) machine=(-machine virt -cpu cortex-a72 -serial "file:$work/console" -append "console=ttyAMA0 root=/dev/vda rw panic=-1 quiet story=$*") ;;
    esac
    setpriv --pdeathsig KILL "$emulator" "${machine[@]}" \
        -accel tcg,thread=multi -smp 2 -m 1024 -nodefaults -no-user-config -nic none -display none -monitor none -no-reboot \
        -kernel "$image/kernel" -initrd "$image/initrd" \
        -drive "file=$work/disk,if=none,id=disk,format=raw,cache=unsafe" -device virtio-blk-pci,drive=disk \
        -drive "file=$work/over.tar,if=none,id=over,format=raw,readonly=on" -device virtio-blk-pci,drive=over </dev/null &
    guest=$!
}
seen() { # PATTERN: the last line that has it
    tr -d '\r' <"$work/console" | grep -a "$1" | tail -n 1 || true
}
# Waits for a pattern on the console; the box may end meanwhile.
await() {
    local until=$((SECONDS + LIMIT))
    while [[ -z $(seen "$1") ]]; do
        if [[ -n $(seen '^VERDICT 1') ]]; then fail "$(seen '^VERDICT 1')"; fi
        if ! kill -0 "$guest" 2>/dev/null; then
            sleep 1
            if [[ -n $(seen "$1") ]]; then return; fi
            fail "the box ended by itself"
        fi
        if [[ $SECONDS -ge $until ]]; then fail "not within $LIMIT s: $1"; fi
        sleep 0.5
    done
}
ends() { # the box switches itself off
    await '^VERDICT 0'
    local until=$((SECONDS + 300))
    while kill -0 "$guest" 2>/dev/null; do
        if [[ $SECONDS -ge $until ]]; then fail "the box did not switch itself off"; fi
        sleep 0.5
    done
    wait "$guest" || true
    guest=
}
keep_figures() {
    sed -n 's/\r//; s/^FIGURE \([a-z_]*\) \(.*\)$/\1 \2/p' "$work/console" >>"$work/figures"
}
figure() {
    awk -v name="$1" '$1 == name { $1 = ""; sub(/^ /, ""); found = $0 } END { print found }' "$work/figures"
}
