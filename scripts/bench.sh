#!/usr/bin/env bash
# Measures in executed instructions: boots the scenario "bench" on one core whose clock counts instructions, and for the
# cost of a message where there are more partitions or fewer "bench-one" and "bench-most"; prints a table and writes
# target/bench.json. The same code gives the same numbers on any machine.
#
# Usage: bench.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Since this release the CPU "max" has a clock of 1 GHz, so that a tick is an instruction.
MIN_QEMU=9.1

main() {
    local version
    version=$(qemu_version "${QEMU:-qemu-system-aarch64}")
    version_at_least "$version" "$MIN_QEMU" ||
        die "QEMU $version counts in other units; $MIN_QEMU or newer counts instructions." "Set QEMU=<path>."
    "$SCRIPTS/build.sh"
    local scenario
    for scenario in bench bench-one bench-most; do
        ICOUNT=1 "$SCRIPTS/run.sh" --quiet "$scenario"
    done
    echo
    "$SCRIPTS/bench.py" "$OUT/bench/console.log,$OUT/bench-one/console.log,$OUT/bench-most/console.log" "$OUT/bin/tantalum-qemu.bin" "$TARGET_DIR/bench.json"
    say "Written: $TARGET_DIR/bench.json"
}

main "$@"
