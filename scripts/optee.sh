#!/usr/bin/env bash
# Builds OP-TEE as a secure partition, with the kit to build trusted applications for it, once for each set of sources and
# flags, and prints the folder they are in:
#   tee-raw.bin           the image of the partition
#   export-ta_arm64       the kit: TA_DEV_KIT_DIR of a trusted application's make
#
# Usage: optee.sh [tool COMMAND...]
#   SPD=opteed             builds it as the only trusted OS, under TF-A's dispatcher of that name
#   tool COMMAND...        runs the command with the Python modules that OP-TEE's scripts need
#   OPTEE_DIR=<tree>       build this tree (nothing is written into it) instead of Debian's sources
#   OPTEE_FLAGS='A=1 ..'   more flags for OP-TEE's make
#   OPTEE_PTA=<folder>     a pseudo-TA that is built into it, from outside its tree (partitions/optee/pta); "none" for none

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$SCRIPTS/debian.sh"
source "$SCRIPTS/foreign.sh"

# Where the manifest of the partition puts it; the image follows the package's header and manifest.
LOAD_ADDRESS=0x0e400000
MEMORY=0x00c00000
ENTRY_OFFSET=0x4000

FLAGS=(
    PLATFORM=vexpress-qemu_armv8a CFG_ARM64_core=y CFG_USER_TA_TARGETS=ta_arm64
)
AS_PARTITION=(
    # The SPMC at S-EL2 owns the interrupt controller and offers an interface of its own for interrupts.
    CFG_CORE_SEL2_SPMC=y CFG_ARM_GICV3=n CFG_CORE_HAFNIUM_INTC=y CFG_CORE_WORKAROUND_NSITR_CACHE_PRIME=n
    "CFG_TZDRAM_START=$(printf '%#x' $((LOAD_ADDRESS + ENTRY_OFFSET)))"
    "CFG_TZDRAM_SIZE=$(printf '%#x' $((MEMORY - ENTRY_OFFSET)))"
)

# All of the secure memory behind the first MiB is its own, and the interrupt controller's secure side.
ALONE=(CFG_ARM_GICV3=y)

PTA=${OPTEE_PTA:-$ROOT/partitions/optee/pta}
[[ $PTA != none ]] || PTA=''

all_flags() {
    if [[ ${SPD:-spmd} == spmd ]]; then
        echo "${FLAGS[*]} ${AS_PARTITION[*]} ${OPTEE_FLAGS:-}"
    else
        echo "${FLAGS[*]} ${ALONE[*]} ${OPTEE_FLAGS:-}"
    fi
}

# ---- Python with the modules that OP-TEE's scripts need ----

MODULES=$CACHE/python
PYTHON_PACKAGES=(python3-pyelftools python3-cryptography)

python_works() { "$@" -c 'import cryptography.hazmat.primitives.asymmetric.rsa, elftools.elf.elffile' 2>/dev/null; }

fetch_modules() {
    use_system_apt
    own_apt_update
    unpack_packages "$WORK/python/root" '' "${PYTHON_PACKAGES[@]}"
    mkdir "$WORK/python/bin"
    cat >"$WORK/python/bin/python3" <<'EOF'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/../root
PYTHONPATH=$root/usr/lib/python3/dist-packages${PYTHONPATH:+:$PYTHONPATH} exec /usr/bin/python3 "$@"
EOF
    chmod +x "$WORK/python/bin/python3"
    python_works "$WORK/python/bin/python3"
    publish "$WORK/python" "$MODULES"
}

# Sets PATH so that python3 is one that has the modules: the user's, or the system's with modules beside it.
use_python() {
    python_works python3 && return
    if [[ ! -e $MODULES/bin/python3 ]]; then
        require_apt "${PYTHON_PACKAGES[*]}"
        step "Fetching Python's modules for OP-TEE's build" \
            "This needs a network once. Or install them yourself: apt-get install ${PYTHON_PACKAGES[*]}" fetch_modules
    fi
    PATH=$MODULES/bin:$PATH
}

# ---- Build ----

source_identity() {
    if [[ -n ${OPTEE_DIR:-} ]]; then
        realpath "$OPTEE_DIR"
        (cd "$OPTEE_DIR" && find . -path ./.git -prune -o -path ./out -prune -o -type f -printf '%p %s %T@\n' | sort)
    else
        source_folder optee-os
    fi
    [[ -z $PTA ]] || cat "$PTA"/* "$PTA"/../include/* 2>/dev/null || true # one of somebody else's may have no such folder
}

build() {
    local folder=$1 source=${OPTEE_DIR:-}
    if [[ -z $source ]]; then
        source=$WORK/source
        unpack_source optee-os "$source"
    fi
    # In the environment, its makefiles add their own folders to that variable.
    # shellcheck disable=SC2046  # flags are words
    env --ignore-environment PATH="$PATH" HOME="$HOME" PYTHONDONTWRITEBYTECODE=1 \
        ${PTA:+"core-platform-subdirs=$(realpath "$PTA")"} \
        make --directory="$source" --jobs="$(nproc)" O="$WORK/build" \
        CROSS_COMPILE=aarch64-linux-gnu- CROSS_COMPILE64=aarch64-linux-gnu- $(all_flags)
    mkdir "$WORK/done"
    cp --recursive "$WORK/build/export-ta_arm64" "$WORK/build/core/tee-raw.bin" "$WORK/build/core/tee.elf" "$WORK/done/"
    all_flags >"$WORK/done/flags"
    publish "$WORK/done" "$folder"
}

main() {
    [[ -z $PTA || -e $PTA/sub.mk ]] || die "OPTEE_PTA=$PTA has no sub.mk."
    [[ -z ${OPTEE_DIR:-} || -e $OPTEE_DIR/mk/compile.mk ]] || die "OPTEE_DIR=$OPTEE_DIR is not a tree of OP-TEE."
    lock optee
    make_work_dir
    if [[ ${1:-} == tool ]]; then
        use_python
        "${@:2}"
        return
    fi
    [[ -n ${OPTEE_DIR:-} ]] || get_source optee-os
    local key folder
    key=$({ all_flags; source_identity; } | sha256sum | cut -c 1-16)
    folder=$CACHE/optee/$key
    if [[ ! -e $folder/flags ]]; then
        use_python
        step "Building OP-TEE and its kit for trusted applications" \
            "If the compiler is to blame, put another aarch64-linux-gnu-gcc into PATH." build "$folder"
    fi
    echo "$folder"
}

main "$@"
