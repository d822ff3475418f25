#!/usr/bin/env bash
# Random calls and interrupts on four cores for some time, with nothing lost.
#
# Usage: soak.sh [SECONDS]    (600)

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

limit=${1:-${SOAK_SECONDS:-600}}
[[ $limit =~ ^[1-9][0-9]*$ ]] || die "SOAK_SECONDS=$limit: expected a number of seconds."
TIMEOUT=$((limit + 300)) exec "$SCRIPTS/run.sh" test-interrupts -fw_cfg "name=opt/tantalum/soak,string=$limit"
