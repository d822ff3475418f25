#!/usr/bin/env bash
# Packs a scenario into a flash image that QEMU boots: TF-A, the SPMC, its manifest, the partitions, the normal world.
#
# Usage: pack.sh SCENARIO [FOLDER]    packs into FOLDER (target/qemu/SCENARIO) and prints its name
# A scenario is a folder (manifests/qemu/SCENARIO, or a path with a slash in it) that holds
#   spmc.dts           the SPMC's manifest (TOS_FW_CONFIG). A line "// normal world: FF-A 1.1" in it has our normal world speak
#                      that version
#   <partition>.dts    a partition's manifest, for each partition. Its image is the program tantalum-<partition>, unless
#                      a line "// image: NAME" names another program, or a file (a path with a slash, from this folder;
#                      $NAME in it is the environment's).
#                      A line "// package: 1" packs it in the old layout, version 1, "// package: list" as a transfer list.
# Manifests may use #include and macros of the C preprocessor. Instead of these, what others wrote can be given:
#   SPMC=<bin> SPMC_MANIFEST=<dts|dtb> TB_FW_CONFIG=<dts|dtb> PACKAGES='<pkg> ...' SP_LAYOUT_FILE=<json> BL33=<bin|none>
# PACKAGES, or else SP_LAYOUT_FILE, takes the place of the scenario's partitions.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
    (($# >= 1)) || die "Which scenario? For example: pack.sh demo"
    local scenario=$ROOT/manifests/qemu/$1 tfa packed
    [[ $1 == */* ]] && scenario=${1%/}
    [[ -d $scenario ]] || die "There is no scenario $1." "There are: $(cd "$ROOT/manifests/qemu" 2>/dev/null && echo *)"
    packed=${2:-$OUT/$(basename "$scenario")}
    tfa=$("$SCRIPTS/tfa.sh")
    mkdir -p "$packed"
    "$SCRIPTS/pack.py" --tfa "$tfa" --programs "$OUT/bin" --out "$packed" "$scenario" ||
        die "The scenario $1 could not be packed." "If an image is missing, build it first: make build"
    echo "$packed"
}

main "$@"
