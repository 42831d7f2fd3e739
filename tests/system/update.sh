#!/usr/bin/env bash
# Two versions that are really built: the first becomes the second and stays; a third, made to fail its health check, is given up
# for the second; an update without room on the disk changes nothing.
#   tests/system/update.sh
# The second version is built from a copy of the tree with another number, in a target directory that is kept; what it is built with is taken
# from target/release when that is there (about half as long as a build).
# SECOND=FILE names a program that was built before and says 90.0.0 of itself.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
if [[ $# -gt 0 ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
hearthkey=$(realpath "${HEARTHKEY:-target/release/hearthkey}")
work=$(mktemp -d)
supervisor=
finish() {
    if [[ -n $supervisor ]] && kill -0 "$supervisor" 2>/dev/null; then
        kill "$supervisor"
        wait "$supervisor" || true
    fi
    if mountpoint -q "$work/small"; then umount "$work/small"; fi
    rm -rf "$work"
}
trap finish EXIT
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    tail -n 40 "$work/log" >&2 || true
    exit 1
}

build() { # version: builds it from a copy of the tree, and prints where it is
    local tree=$PWD/target/update/tree
    mkdir -p "$tree"
    git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$tree"
    sed -i "0,/^version = \".*\"/s//version = \"$1\"/" "$tree/Cargo.toml"
    if [[ -d target/release/deps && ! -d target/update/build ]]; then
        mkdir -p target/update/build/release
        cp -al target/release/{deps,build,.fingerprint} target/update/build/release/
    fi
    (cd "$tree" && CARGO_TARGET_DIR=$OLDPWD/target/update/build cargo build --release --offline --no-default-features >&2)
    cp "target/update/build/release/hearthkey" "$work/hearthkey-$1"
    printf '%s\n' "$work/hearthkey-$1"
}
json() { # what, of the ledger
    "$hearthkey" update status --json --config "$work/hub.toml" | sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p"
}
ended() { # how the update ends
    local _
    for _ in $(seq 240); do
        if [[ $(json ended) == "$1" && $(json current) == "$2" ]]; then return; fi
        sleep 0.5
    done
    fail "the update did not end as $1 with version $2: $("$hearthkey" update status --json --config "$work/hub.toml")"
}
healthy() {
    local _
    for _ in $(seq 120); do
        if "$hearthkey" doctor --health --config "$work/hub.toml" 2>/dev/null; then return; fi
        sleep 0.5
    done
    fail "no hub serves"
}

public=$("$hearthkey" factory hub-key --out "$work/vendor.json" | sed -n 's/.*key = "\(.*\)"/\1/p')
cat >"$work/hub.toml" <<TOML
data_dir = "$work/hub"
[https]
address = "127.0.0.1:0"
[http]
address = "127.0.0.1:0"
[mqtts]
address = "127.0.0.1:0"
[mdns]
enabled = false
[bluetooth]
enabled = false
[update]
key = "$public"
healthy_s = 3
health_every_s = 1
starts = 1
TOML

printf -- '-- a second version\n'
second=${SECOND:-}
if [[ -z $second ]]; then second=$(build 90.0.0); fi
"$second" --version | grep -qx 'hearthkey 90.0.0' || fail "the second version says $("$second" --version)"
"$hearthkey" factory hub-release --program "$second" --version 90.0.0 --key "$work/vendor.json" --out "$work/site" >/dev/null

"$hearthkey" run --config "$work/hub.toml" 2>"$work/log" >/dev/null &
supervisor=$!
healthy
printf -- '-- the first version serves; it becomes the second\n'
"$hearthkey" update from-file --config "$work/hub.toml" "$work/site/"hearthkey-90.0.0-*.tar.gz
ended updated 90.0.0
healthy

printf -- '-- a third whose doctor says no is given up for the second\n'
cat >"$work/third" <<SH
#!/bin/sh
[ "\$1" = --version ] && { echo 'hearthkey 91.0.0'; exit 0; }
[ "\$1" = doctor ] && { echo 'it does not serve' >&2; exit 1; }
exec '$second' "\$@"
SH
chmod +x "$work/third"
"$hearthkey" factory hub-release --program "$work/third" --version 91.0.0 --key "$work/vendor.json" --out "$work/site" >/dev/null
"$hearthkey" update from-file --config "$work/hub.toml" "$work/site/"hearthkey-91.0.0-*.tar.gz
ended rolled_back 90.0.0
healthy
kill "$supervisor"
wait "$supervisor" || fail "the supervisor did not stop well"
supervisor=

printf -- '-- without room nothing is changed\n'
mkdir "$work/small"
if mount -t tmpfs -o size=1m tmpfs "$work/small" 2>/dev/null; then
    mkdir -p "$work/small/update/versions" "$work/small/update/download"
    head -c 2M /dev/zero >"$work/small/full" 2>/dev/null || true
    sed "s|^\[update\]|&\ndir = \"$work/small/update\"|" "$work/hub.toml" >"$work/small.toml"
    if "$hearthkey" update from-file --config "$work/small.toml" "$work/site/"hearthkey-90.0.0-*.tar.gz 2>"$work/said"; then
        fail "it unpacked where there is no room"
    fi
    grep -q 'make room' "$work/said" || fail "it said: $(cat "$work/said")"
    [[ -z $(ls -A "$work/small/update/versions") ]] || fail "something is left"
else
    printf -- '   (left out: mounting a small file system needs root)\n'
fi
printf -- '-- done\n'
