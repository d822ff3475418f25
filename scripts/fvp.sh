#!/usr/bin/env bash
# Makes what Arm's FVP Base RevC boots: bl1.bin and fip.bin in target/fvp/SCENARIO, and in the folder "tfa" there what a build
# of TF-A of one's own takes. It does not run it: that needs Arm's model. See spmc/docs/fvp.md.
#
# Usage: fvp.sh SCENARIO    a folder of manifests/fvp, or a path with a slash in it; built as pack.sh says
# What pack.sh takes is taken here too, BL33=<bin> foremost: without it the shell (partitions/shell) is the normal world.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
    (($# >= 1)) || die "Which scenario? For example: fvp.sh demo"
    local scenario=$ROOT/manifests/fvp/$1 tfa packed
    [[ $1 == */* ]] && scenario=${1%/}
    [[ -d $scenario ]] || die "There is no scenario $1 for the FVP." "There are: $(cd "$ROOT/manifests/fvp" && printf '%s ' */)"
    packed=$TARGET_DIR/fvp/$(basename "$scenario")
    tfa=$("$SCRIPTS/tfa.sh" fvp)
    mkdir -p "$packed"
    "$SCRIPTS/pack.py" --fvp --tfa "$tfa" --programs "$OUT/bin" --out "$packed" "$scenario" ||
        die "The scenario $1 could not be packed." "If an image is missing, build it first: make build"
    say "BL1 and the FIP are in $packed. With Arm's model (not run here):"
    cat <<EOF
FVP_Base_RevC-2xAEMvA -C pctl.startup=0.0.0.0 -C bp.secure_memory=1 -C bp.vis.disable_visualisation=1 \\
    -C cluster0.NUM_CORES=4 -C cluster1.NUM_CORES=4 -C cluster0.has_arm_v8-5=1 -C cluster1.has_arm_v8-5=1 \\
    -C bp.secureflashloader.fname=$packed/bl1.bin -C bp.flashloader0.fname=$packed/fip.bin
EOF
}

main "$@"
