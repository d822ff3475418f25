#!/usr/bin/env bash
# Boots a scenario with the shell as its normal world (partitions/shell), on this terminal or with the lines of a script.
#
# Usage: shell.sh [--quiet] SCENARIO [QEMU ARGUMENT]...
#   SCRIPT=file   what is typed; "off" comes by itself at its end. So it does with what is piped in.
# and all that run.sh takes. At a terminal Ctrl-A X ends the machine, at once.
# A line "#= TEXT" in a script says that TEXT shows on the console, in what follows: it fails if it does not.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# check_expectations SCRIPT LOG: what the script says that shows on the console must do so, in that order.
check_expectations() {
    python3 - "$1" "$2" <<'EOP'
import sys
script, log = (open(name, errors="replace").read().replace("\r", "").splitlines() for name in sys.argv[1:])
shown = iter(line for line in log if not line.startswith("tantalum> "))
for number, line in enumerate(script, 1):
    if line.startswith("#= ") and not any(line[3:] in show for show in shown):
        sys.exit(f"error: this does not show, or not there (line {number} of the script): {line[3:]}")
EOP
}

main() {
    local quiet=() scenario script typed
    [[ ${1:-} == --quiet ]] && { quiet=("$1"); shift; }
    (($# >= 1)) || die "Which scenario? For example: shell.sh demo"
    export BL33=$OUT/bin/tantalum-shell.bin
    if [[ -z ${SCRIPT:-} && -t 0 ]]; then
        TERMINAL=1 exec "$SCRIPTS/run.sh" "$@"
    fi
    scenario=$1
    script=$(mktemp "${TMPDIR:-/tmp}/tantalum-shell.XXXXXX")
    typed=$script.typed
    # shellcheck disable=SC2064  # the names are known now
    trap "rm -f '$script' '$typed'" EXIT
    cat "${SCRIPT:--}" >"$script" || die "SCRIPT=$SCRIPT can't be read."
    { grep --invert-match '^#= ' "$script" || true; echo off; } >"$typed"
    INPUT=$typed PROMPT='^tantalum> ' EXPECT='^tantalum: the shell ends' "$SCRIPTS/run.sh" "${quiet[@]}" "$@"
    check_expectations "$script" "$OUT/$(basename "$scenario")/console.log"
}

main "$@"
