#!/usr/bin/env bash
# Builds the clients and trusted applications of partitions/optee, and the program of partitions/linux that sends messages
# to partitions. Prints the folder they are in, laid out as Linux's root.
#
# Usage: gp.sh OPTEE [FOLDER]    for the OP-TEE in the folder OPTEE, as optee.sh prints it; builds in FOLDER (target/qemu/gp)
#   DEB_DIR, DEBIAN_MIRROR       see foreign.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$SCRIPTS/debian.sh"
source "$SCRIPTS/foreign.sh"

SYSROOT_PACKAGES=(libc6 libc6-dev linux-libc-dev libteec2 optee-client-dev)
TAS=(double notary)
CLIENTS=(optee/double optee/notary optee/gp-test optee/gp-trace linux/ffa-send)

unpack_sysroot() {
    unpack_debs "$WORK/sysroot" "${SYSROOT_PACKAGES[@]}"
    [[ -e $WORK/sysroot/lib ]] || ln -s usr/lib "$WORK/sysroot/lib"
    publish "$WORK/sysroot" "$1"
}

# Sets SYSROOT: what to compile programs for Linux with.
get_sysroot() {
    local package
    get_debs "${SYSROOT_PACKAGES[@]}"
    SYSROOT=$CACHE/sysroot/$(for package in "${SYSROOT_PACKAGES[@]}"; do basename "$(deb "$package")"; done |
        sha256sum | cut -c 1-16)
    [[ -e $SYSROOT ]] || step "Unpacking the headers and libraries of Linux programs" "$(other_way)" unpack_sysroot "$SYSROOT"
}

build_clients() {
    local folder client
    for folder in optee linux; do
        mkdir -p "$1/$folder"
        make --directory="$ROOT/partitions/$folder/client" SYSROOT="$SYSROOT" CC=aarch64-linux-gnu-gcc O="$1/$folder"
    done
    mkdir -p "$1/root/usr/bin"
    for client in "${CLIENTS[@]}"; do
        cp "$1/$client" "$1/root/usr/bin/"
    done
}

build_tas() {
    local kit=$2/export-ta_arm64 ta
    mkdir -p "$1/root/usr/lib/optee_armtz"
    for ta in "${TAS[@]}"; do
        # What was built with another kit is of no use.
        [[ $(cat "$1/$ta/kit" 2>/dev/null) == "$kit" ]] || rm -rf "${1:?}/$ta"
        mkdir -p "$1/$ta"
        echo "$kit" >"$1/$ta/kit"
        "$SCRIPTS/optee.sh" tool make --directory="$ROOT/partitions/optee/ta/$ta" \
            TA_DEV_KIT_DIR="$kit" CROSS_COMPILE=aarch64-linux-gnu- O="$1/$ta"
        cp "$1/$ta"/*-*.ta "$1/root/usr/lib/optee_armtz/"
    done
}

main() {
    (($# >= 1)) || die "For which OP-TEE? For example: gp.sh \$(scripts/optee.sh)"
    local optee=$1 folder=${2:-$OUT/gp}
    [[ -e $optee/export-ta_arm64/mk/ta_dev_kit.mk ]] || die "$optee has no kit for trusted applications."
    lock gp
    make_work_dir
    get_sysroot
    mkdir -p "$folder"
    step "Building the clients" "The compiler's message is above." build_clients "$folder"
    step "Building the trusted applications" "The compiler's message is above." build_tas "$folder" "$optee"
    echo "$folder/root"
}

main "$@"
