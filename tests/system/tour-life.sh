#!/usr/bin/env bash
# The tour of life, given something wrong at each of its steps in turn: it must fail there, each time.
#   tests/system/tour-life.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
if [[ $# -gt 0 ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
unset HEARTHKEY
exec cargo test --locked --features sim,cloud --test it -- --ignored --exact --nocapture \
    tour::the_tour_of_life_fails_at_every_step_that_is_broken
