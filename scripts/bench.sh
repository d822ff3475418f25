#!/usr/bin/env bash
# Measures in executed instructions: boots the scenario "bench" on one core whose clock counts instructions, prints a table
# and writes target/bench.json. The same code gives the same numbers on any machine.
#
# Usage: bench.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
    "$SCRIPTS/build.sh"
    ICOUNT=1 "$SCRIPTS/run.sh" --quiet bench
    echo
    "$SCRIPTS/bench.py" "$OUT/bench/console.log" "$OUT/bin/tantalum-qemu.bin" "$TARGET_DIR/bench.json"
    say "Written: $TARGET_DIR/bench.json"
}

main "$@"
