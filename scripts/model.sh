#!/usr/bin/env bash
# Visits the states of small machines (spmc/core/tests/interrupts), and says for each how many there were, and whether all.
#
# Usage: model.sh [NAME]...    only the machines whose tests have NAME in theirs (all)
#   MINUTES=10   the most that a machine gets

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

minutes=${MINUTES:-10}
[[ $minutes =~ ^[1-9][0-9]*$ ]] || die "MINUTES=$minutes: expected a number of minutes."
cd "$ROOT"
TANTALUM_MODEL_SECONDS=$((minutes * 60)) exec cargo test --profile model --package tantalum-core --test interrupts -- "$@"
