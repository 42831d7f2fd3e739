#!/usr/bin/env bash
# What happens to boxes, many times: sudden deaths in the midst of everything, of updates, backups, restores and recoveries; the power at every
# sync; full disks, disks that can only be read, wrong clocks, no descriptors, no radio. See tests/it/faults/mod.rs, src/store/fragile.rs and the
# table in docs/reliability.md.
#   [FAULT_ROUNDS=N] [FAULT_SEED=N] tests/system/faults.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
if [[ $# -gt 0 ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
export FAULT_ROUNDS=${FAULT_ROUNDS:-25}
# The tests bring the program that they are built with.
unset HEARTHKEY
build=(cargo test --locked --features "sim,cloud")
# One after the other, so that each is alone with the box.
how=(-- --nocapture --test-threads 1)
failed=0
"${build[@]}" --lib "${how[@]}" wherever_the_power_goes whenever_the_power_goes || failed=1
"${build[@]}" --test it "${how[@]}" faults:: durability:: firmware_hub::full:: updating::cuts:: || failed=1
exit "$failed"
