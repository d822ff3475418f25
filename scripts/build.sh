#!/usr/bin/env bash
# Builds the SPMC, the partitions and the normal-world driver, as raw images in target/qemu/bin.
#
# Usage: build.sh [selftest | PROGRAM...]
#   PROGRAM...     only these, for instance tantalum-echo
#   selftest       only the SPMC with the tests of its machine layer built in, as tantalum-selftest.bin
#   PROFILE=dev    a debug build (release)

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PROFILE=${PROFILE:-release}

build_folder() {
    local folder=$PROFILE
    [[ $PROFILE == dev ]] && folder=debug
    echo "$TARGET_DIR/$RUST_TARGET/$folder"
}

# An image that did not change keeps its time.
make_image() {
    local elf=$1 image=$2
    aarch64-linux-gnu-objcopy --output-target binary "$elf" "$image.$$"
    if cmp --quiet "$image.$$" "$image"; then rm "$image.$$"; else mv "$image.$$" "$image"; fi
    printf '    %-28s %8d bytes\n' "$(basename "$image")" "$(stat --format %s "$image")" >&2
}

# Both SPMCs have the same name as ELF files: what is built last stays there.
build_selftest() {
    say "Building the SPMC with its self-test"
    cargo build --profile "$PROFILE" --target "$RUST_TARGET" --package tantalum-qemu --features selftest >&2 ||
        die "The build failed; cargo's message is above."
    mkdir -p "$OUT/bin"
    make_image "$(build_folder)/tantalum-qemu" "$OUT/bin/tantalum-selftest.bin"
}

main() {
    cd "$ROOT"
    if [[ ${1:-} == selftest ]]; then
        build_selftest
        return
    fi
    local programs=("$@") program arguments=()
    (($#)) || mapfile -t programs < <("$SCRIPTS/workspace.py" programs)
    ((${#programs[@]})) || die "The workspace has no program to build." "cargo metadata says more."
    for program in "${programs[@]}"; do
        arguments+=(--package "$program")
    done
    say "Building for $RUST_TARGET ($PROFILE): ${programs[*]}"
    cargo build --profile "$PROFILE" --target "$RUST_TARGET" "${arguments[@]}" >&2 ||
        die "The build failed; cargo's message is above."
    mkdir -p "$OUT/bin"
    for program in "${programs[@]}"; do
        make_image "$(build_folder)/$program" "$OUT/bin/$program.bin"
    done
}

main "$@"
