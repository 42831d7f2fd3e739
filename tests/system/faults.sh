#!/usr/bin/env bash
# What happens to boxes, many times: sudden deaths in the midst of everything, of backups and of restores; full disks, disks that can only be
# read, wrong clocks, no descriptors, no radio. See tests/it/faults/mod.rs and the table in docs/reliability.md.
#   [FAULT_ROUNDS=N] [FAULT_SEED=N] tests/system/faults.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
if [[ $# -gt 0 ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
export FAULT_ROUNDS=${FAULT_ROUNDS:-100}
# The tests bring the program that they are built with.
unset HEARTHKEY
exec cargo test --locked --features sim,cloud --test it -- --nocapture --test-threads 1 faults::
