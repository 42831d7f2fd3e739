#!/usr/bin/env bash
# Hub and cloud on two hosts, each a network namespace, through rounds of cuts, losses and sudden deaths: nothing that was
# acknowledged may be lost, and nothing that was taken away may come back. See tests/it/partitions/mod.rs.
#   [PARTITION_ROUNDS=N] [PARTITION_SEED=N] tests/system/partitions.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
if [[ $# -gt 0 ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
export PARTITION_ROUNDS=${PARTITION_ROUNDS:-200}
# The tests bring the program that they are built with.
unset HEARTHKEY
exec cargo test --locked --features sim,cloud --test it -- --ignored --exact --nocapture \
    partitions::through_two_hundred_rounds_nothing_is_lost_and_nothing_comes_back
