#!/usr/bin/env bash
# Builds the parts of TF-A that boot Tantalum on QEMU (BL1, BL2 and BL31 with the SPMD), once for each set of sources
# and flags, and prints the folder they are in. They do not depend on the SPMC, the partitions or the normal world.
#
# Usage: tfa.sh [fvp]  fvp: those for Arm's FVP Base RevC, and the device trees of its configuration
#   TFA_DIR=<tree>     build this tree (nothing is written into it) instead of Debian's package of TF-A
#   TFA_BIN=<folder>   build nothing: take bl1.bin, bl2.bin and bl31.bin from there
#   TFA_DEBUG=1        a debug build that says more
#   TFA_FLAGS='A=1..'  more flags for TF-A's make
#   SPD=opteed         TF-A's classic dispatcher for one trusted OS at S-EL1, instead of the one for partitions

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$SCRIPTS/debian.sh"

PACKAGE=arm-trusted-firmware
DEBIAN_SUITES=(trixie forky)
UBUNTU_SUITES=(resolute questing plucky)

FLAGS=(
    PLAT=qemu QEMU_USE_GIC_DRIVER=QEMU_GICV3 NEED_FDT=yes
    # BL32 is at the bottom of secure DRAM.
    ENABLE_FEAT_SEL2=1 BL32_RAM_LOCATION=tdram
    # What the CPU has both worlds may use.
    ENABLE_SVE_FOR_NS=2 ENABLE_SVE_FOR_SWD=1 ENABLE_SME_FOR_NS=2 ENABLE_SME_FOR_SWD=1
    ENABLE_FEAT_FGT=2 ENABLE_FEAT_HCX=2 ENABLE_FEAT_ECV=2 ENABLE_FEAT_MTE2=2
    BRANCH_PROTECTION=1 ARM_ARCH_MAJOR=8 ARM_ARCH_MINOR=5
)
# The SPMC is ours, at S-EL2.
PARTITIONS="SPD=spmd SPMD_SPM_AT_SEL2=1"
IMAGES=(bl1.bin bl2.bin bl31.bin)
BOARD=qemu

# The FVP's build finds out by itself what the CPU has. Its device trees are called here as the FIP's contents are.
FVP_FLAGS=(
    PLAT=fvp
    ENABLE_SVE_FOR_SWD=1 ENABLE_SME_FOR_SWD=1 BRANCH_PROTECTION=1 ARM_ARCH_MAJOR=8 ARM_ARCH_MINOR=5
)
FVP_TREES=(
    "fvp_fw_config fw-config" "fvp-base-gicv3-psci hw-config"
    "fvp_soc_fw_config soc-fw-config" "fvp_nt_fw_config nt-fw-config"
)

# use_board NAME
use_board() {
    case $1 in
    qemu) ;;
    fvp) BOARD=fvp FLAGS=("${FVP_FLAGS[@]}") ;;
    *) die "TF-A for $1 is not known here." "There are: qemu, fvp." ;;
    esac
}

all_flags() {
    local dispatcher=$PARTITIONS
    [[ ${SPD:-spmd} == spmd ]] || dispatcher=SPD=$SPD
    if [[ ${TFA_DEBUG:-0} == 1 ]]; then
        echo "${FLAGS[*]} $dispatcher DEBUG=1 LOG_LEVEL=40 ${TFA_FLAGS:-}"
    else
        echo "${FLAGS[*]} $dispatcher DEBUG=0 LOG_LEVEL=20 ${TFA_FLAGS:-}"
    fi
}

# ---- Sources ----

# The source archive in the cache, if it is there.
source_archive() { compgen -G "$CACHE/sources/${PACKAGE}_*.orig.tar.xz" | sort --version-sort | tail -n 1; }

fetch_source() {
    local id suites suite archives
    read -r id _ < <(distribution)
    if [[ $id == ubuntu ]]; then suites=("${UBUNTU_SUITES[@]}"); else suites=("${DEBIAN_SUITES[@]}"); fi
    for suite in "${suites[@]}"; do
        use_apt "$suite-sources" "$(source_line deb-src "$(system_mirror)" "$suite")"
        own_apt_update || continue
        (cd "$WORK" && own_apt source --download-only "$PACKAGE") || continue
        archives=("$WORK/${PACKAGE}"_*.orig.tar.xz)
        publish "${archives[0]}" "$CACHE/sources/${archives[0]##*/}"
        return
    done
    return 1
}

require_source() {
    [[ -z $(source_archive) ]] || return 0
    local hint="This needs a network once. Or give a tree of TF-A (2.12 or newer): TFA_DIR=<tree>."
    require_apt "the sources of TF-A (or set TFA_DIR=<tree>)"
    [[ -n $(system_mirror) ]] || die "apt knows no mirror of this distribution." "$hint"
    step "Fetching the sources of TF-A" "$hint" fetch_source
}

# What tells one set of sources from another.
source_identity() {
    if [[ -n ${TFA_DIR:-} ]]; then
        realpath "$TFA_DIR"
        (cd "$TFA_DIR" && find . -path ./.git -prune -o -path ./build -prune -o -type f -printf '%p %s %T@\n' | sort)
    else
        source_archive
    fi
}

unpack_source() {
    if [[ -n ${TFA_DIR:-} ]]; then
        realpath "$TFA_DIR"
    else
        mkdir "$WORK/source"
        python3 - "$(source_archive)" "$WORK/source" <<'EOF' || return
import sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    archive.extractall(sys.argv[2])
EOF
        echo "$WORK"/source/*
    fi
}

# ---- Build ----

build() {
    local folder=$1 source type=release targets=(bl1 bl2 bl31)
    [[ ${TFA_DEBUG:-0} == 1 ]] && type=debug
    [[ $BOARD == qemu ]] || targets+=(dtbs)
    source=$(unpack_source)
    # TF-A insists on a list of partitions; it only ends up in the FIP, which is not built here.
    echo '{}' >"$WORK/partitions.json"
    # Our own variables mean other things to TF-A's make, so it gets none of them.
    # shellcheck disable=SC2046  # flags are words
    env --ignore-environment PATH="$PATH" HOME="$HOME" PYTHONDONTWRITEBYTECODE=1 \
        make --directory="$source" --jobs="$(nproc)" \
        BUILD_BASE="$WORK/build" CROSS_COMPILE=aarch64-linux-gnu- SP_LAYOUT_FILE="$WORK/partitions.json" \
        BUILD_MESSAGE_TIMESTAMP='"once, then cached"' $(all_flags) "${targets[@]}"
    mkdir "$WORK/done"
    local image tree from to
    for image in "${IMAGES[@]}"; do
        cp "$WORK/build/$BOARD/$type/$image" "$WORK/done/"
    done
    [[ $BOARD == qemu ]] || for tree in "${FVP_TREES[@]}"; do
        read -r from to <<<"$tree"
        cp "$WORK/build/$BOARD/$type/fdts/$from.dtb" "$WORK/done/$to.dtb"
    done
    all_flags >"$WORK/done/flags"
    publish "$WORK/done" "$folder"
}

main() {
    use_board "${1:-qemu}"
    if [[ -n ${TFA_BIN:-} ]]; then
        local image
        for image in "${IMAGES[@]}"; do
            [[ -e $TFA_BIN/$image ]] || die "TFA_BIN=$TFA_BIN has no $image."
        done
        realpath "$TFA_BIN"
        return
    fi
    [[ -z ${TFA_DIR:-} || -e $TFA_DIR/plat/qemu/qemu/platform.mk ]] || die "TFA_DIR=$TFA_DIR is not a tree of TF-A."
    lock tfa
    make_work_dir
    [[ -n ${TFA_DIR:-} ]] || require_source
    local key folder
    key=$({ all_flags; source_identity; } | sha256sum | cut -c 1-16)
    folder=$CACHE/tfa/$key
    if [[ ! -e $folder/flags ]]; then
        step "Building TF-A for $BOARD (BL1, BL2, BL31)" \
            "If the compiler is to blame, put another aarch64-linux-gnu-gcc into PATH." build "$folder"
    fi
    echo "$folder"
}

main "$@"
