#!/usr/bin/env bash
# Builds the kernel module of partitions/linux, which lets programs in Linux send messages to partitions, against Debian's
# headers of the kernel that linux-root.sh boots. Prints the folder it is in, laid out as Linux's root.
#
# Usage: ffa-module.sh [FOLDER]    builds in FOLDER (target/qemu/ffa-module)
#   DEB_DIR, DEBIAN_MIRROR         see foreign.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$SCRIPTS/debian.sh"
source "$SCRIPTS/foreign.sh"

HEADERS=linux-headers
COMMON=$(sed -n 's/^\(linux-headers-[0-9].*-common\)\t.*/\1/p' "$KNOWN_GOOD")
KBUILD=linux-kbuild
# Where the C library is from when this machine's is too old for the kernel's build programs.
NEWER_LIBC_SUITE=trixie

# ---- What the kernel's build runs on this machine ----

HOST_DEBS=$CACHE/host-debs
host_deb() { compgen -G "$HOST_DEBS/$1_*.deb" | newest_of; }

fetch_host_debs() {
    local architecture
    architecture=$(dpkg --print-architecture)
    mkdir -p "$WORK/host" "$HOST_DEBS"
    use_suite "$(known_suite "$KBUILD")" deb "$architecture"
    own_apt_update
    (cd "$WORK/host" && own_apt download "$(known_name "$KBUILD")")
    use_suite "$NEWER_LIBC_SUITE" deb "$architecture"
    own_apt_update
    (cd "$WORK/host" && own_apt download libc6)
    mv -t "$HOST_DEBS" "$WORK/host"/*.deb
}

# wrap PROGRAM LIBC: if it does not start here, it runs with that C library from now on.
wrap() {
    local program=$1 folder loader said
    said=$("$program" </dev/null 2>&1) || true
    [[ $said == *GLIBC_*"not found"* ]] || return 0
    folder=$(dirname "$program")
    loader=$(realpath --relative-to "$folder" "$(compgen -G "$2/usr/lib/*/ld-linux-*.so.*" | head -n 1)")
    mv "$program" "$program.bare"
    cat >"$program" <<EOF
#!/bin/sh
here=\$(dirname "\$(readlink -f "\$0")")
exec "\$here/$loader" --library-path "\$here/$(dirname "$loader")" "\$here/${program##*/}.bare" "\$@"
EOF
    chmod +x "$program"
}

unpack_headers() {
    local root=$WORK/headers scripts
    unpack_debs "$root" "$HEADERS" "$COMMON"
    dpkg-deb --extract "$(host_deb "$(known_name "$KBUILD")")" "$root"
    dpkg-deb --extract "$(host_deb libc6)" "$root/libc"
    scripts=$(compgen -G "$root/usr/lib/linux-kbuild-*/scripts")
    # What it replaces only picks the one for the target's word size and byte order.
    cp "$scripts/mod/modpost.real-lsb-64" "$scripts/mod/modpost"
    wrap "$scripts/mod/modpost" "$root/libc"
    wrap "$scripts/basic/fixdep" "$root/libc"
    publish "$root" "$1"
}

# ---- The module ----

build_module() {
    local folder=$1 headers=$2 source
    source=$(compgen -G "$headers/usr/src/linux-headers-*-common")
    mkdir -p "$folder/build" "$folder/root/modules/extra"
    # The kernel was built by a newer compiler: without the option that only that one has, and without type information, which
    # needs one more program.
    make --directory="$source" O="$(compgen -G "$headers/usr/src/linux-headers-*-arm64")" ARCH=arm64 \
        CROSS_COMPILE=aarch64-linux-gnu- CC=aarch64-linux-gnu-gcc \
        CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT= CONFIG_DEBUG_INFO_BTF= CONFIG_DEBUG_INFO_BTF_MODULES= \
        M="$ROOT/partitions/linux/module" MO="$folder/build" modules
    aarch64-linux-gnu-objcopy --strip-debug "$folder/build/ffa_message.ko" "$folder/root/modules/extra/ffa_message.ko"
}

version_of() { basename "$(deb "$1")" | cut -d _ -f 2; }

main() {
    local folder headers
    folder=$(realpath --canonicalize-missing "${1:-$OUT/ffa-module}")
    lock ffa-module
    make_work_dir
    get_debs linux-binary "$HEADERS" "$COMMON"
    [[ $(version_of linux-binary) == "$(version_of "$HEADERS")" ]] ||
        die "The kernel is $(version_of linux-binary), the headers are those of $(version_of "$HEADERS")."
    if [[ -z $(host_deb "$(known_name "$KBUILD")") || -z $(host_deb libc6) ]]; then
        require_mirror "$KBUILD"
        step "Fetching what the kernel's build runs here" "$(other_way)" fetch_host_debs
    fi
    headers=$CACHE/linux-headers/$(basename "$(deb "$HEADERS")" .deb)
    [[ -e $headers ]] || step "Unpacking the kernel's headers" "$(other_way)" unpack_headers "$headers"
    step "Building the kernel module for messages to partitions" "The compiler's message is above." \
        build_module "$folder" "$headers"
    echo "$folder/root"
}

main "$@"
