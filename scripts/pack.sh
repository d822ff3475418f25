#!/usr/bin/env bash
# Packs a scenario into a flash image that QEMU boots: TF-A, the SPMC, its manifest, the partitions, the normal world.
#
# Usage: pack.sh SCENARIO    -> prints the folder with flash.bin
# A scenario is a folder (manifests/qemu/SCENARIO, or a path with a slash in it) that holds
#   spmc.dts           the SPMC's manifest (TOS_FW_CONFIG)
#   <partition>.dts    a partition's manifest, for each partition. Its image is the program tantalum-<partition>, unless
#                      a line "// image: NAME" names another program, or a file (a path with a slash, from the scenario).
#                      A line "// package: 1" packs it in the old layout, version 1.
# Instead of these, what others wrote can be given:
#   SPMC=<bin> SPMC_MANIFEST=<dts|dtb> TB_FW_CONFIG=<dts|dtb> PACKAGES='<pkg> ...' BL33=<bin>
# PACKAGES takes the place of the scenario's partitions. Manifests may use #include and macros of the C preprocessor.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

BIN=$OUT/bin

# scenario_folder SCENARIO
scenario_folder() {
    if [[ $1 == */* ]]; then echo "${1%/}"; else echo "$ROOT/manifests/qemu/$1"; fi
}

# compile_manifest DTS|DTB TO: device trees that are compiled already are taken as they are.
compile_manifest() {
    local from=$1 to=$2
    [[ -e $from ]] || die "There is no $from."
    if [[ $(head --bytes 4 "$from" | od -An -tx1 | tr -d ' \n') == d00dfeed ]]; then
        cp "$from" "$to"
        return
    fi
    aarch64-linux-gnu-gcc -E -nostdinc -undef -x assembler-with-cpp -I "$(dirname "$from")" -o "$to.dts" "$from" ||
        die "The preprocessor does not understand $from."
    dtc --quiet -I dts -O dtb -o "$to" "$to.dts" || die "dtc does not understand $from."
}

# remark FILE NAME: what follows "// NAME:" in the file.
remark() { sed -n "s|^ *// *$2: *\([^ ]*\) *$|\1|p" "$1" | head -n 1; }

partition_image() {
    local dts=$1 image
    image=$(remark "$dts" image)
    image=${image:-$(basename "$dts" .dts)}
    case $image in
    /*) echo "$image" ;;
    */*) echo "$(dirname "$dts")/$image" ;;
    *) echo "$BIN/tantalum-$image.bin" ;;
    esac
}

# Fills PARTITIONS with what pack.py wants to know of the scenario's partitions.
collect_partitions() {
    local folder=$1 dts name version
    PARTITIONS=()
    if [[ -n ${PACKAGES:-} ]]; then
        local package
        for package in $PACKAGES; do
            PARTITIONS+=(--package "$package")
        done
        return
    fi
    for dts in "$folder"/*.dts; do
        name=$(basename "$dts" .dts)
        [[ -e $dts && $name != spmc && $name != tb_fw_config ]] || continue
        version=$(remark "$dts" package)
        compile_manifest "$dts" "$PACKED/$name.dtb"
        PARTITIONS+=(--partition "$name:${version:-2}:$PACKED/$name.dtb:$(partition_image "$dts")")
    done
}

main() {
    (($# == 1)) || die "Which scenario? For example: pack.sh demo"
    local folder tfa name
    folder=$(scenario_folder "$1")
    name=$(basename "$folder")
    [[ -d $folder || -n ${SPMC_MANIFEST:-} ]] ||
        die "There is no scenario $1." "There are: $(cd "$ROOT/manifests/qemu" 2>/dev/null && echo *)"
    tfa=$("$SCRIPTS/tfa.sh")
    PACKED=$OUT/$name
    mkdir -p "$PACKED"
    rm -f "$PACKED"/*.{dtb,dts,pkg,bin}
    compile_manifest "${SPMC_MANIFEST:-$folder/spmc.dts}" "$PACKED/spmc.dtb"
    collect_partitions "$folder"
    python3 "$SCRIPTS/pack.py" packages --out "$PACKED" "${PARTITIONS[@]}"
    compile_manifest "${TB_FW_CONFIG:-$PACKED/tb_fw_config.dts}" "$PACKED/tb_fw_config.dtb"
    python3 "$SCRIPTS/pack.py" flash --out "$PACKED" "${PARTITIONS[@]}" --tfa "$tfa" \
        --spmc "${SPMC:-$BIN/tantalum-qemu.bin}" --spmc-manifest "$PACKED/spmc.dtb" \
        --tb-fw-config "$PACKED/tb_fw_config.dtb" --bl33 "${BL33:-$BIN/tantalum-normal-world.bin}"
    echo "$PACKED"
}

main "$@"
