#!/usr/bin/env bash
# Builds the SPMC, the partitions and the normal-world driver, as raw images in target/qemu/bin.
#
# Usage: build.sh [selftest | PROGRAM...]
#   PROGRAM...     only these, for instance tantalum-echo
#   selftest       only the SPMC with the tests of its machine layer built in, as tantalum-selftest.bin
#   PROFILE=dev    a debug build of the partitions; the SPMC and the test driver have no room for one, and stay as they are

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PROFILE=${PROFILE:-release}

# build_folder PROFILE: where cargo leaves programs.
build_folder() { echo "$TARGET_DIR/$RUST_TARGET/${1/#dev/debug}"; }

# Whether a program is what runs at EL2, in a window or with a code model that a debug build is too big for.
is_release_only() { [[ -d platform/${1#tantalum-} || $1 == tantalum-normal-world ]]; }

# cargo with paths of this machine cut short where panics name the code of others: an image is the same wherever it is built.
cargo_build() {
    local folder flags=()
    folder=$(rustc --print sysroot)/lib/rustlib/src/rust
    flags+=("'--remap-path-prefix=$folder=rust'")
    cargo fetch --quiet >&2 || die "Getting the crates failed; cargo's message is above."
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=("'--remap-path-prefix=$folder=crates'")
    done
    cargo build --target "$RUST_TARGET" --config "target.$RUST_TARGET.rustflags = [$(IFS=, && echo "${flags[*]}")]" "$@"
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
    cargo_build --release --package tantalum-qemu --features selftest >&2 ||
        die "The build failed; cargo's message is above."
    mkdir -p "$OUT/bin"
    make_image "$(build_folder release)/tantalum-qemu" "$OUT/bin/tantalum-selftest.bin"
}

# build_programs PROFILE PROGRAM...
build_programs() {
    local profile=$1 program arguments=()
    shift
    (($#)) || return 0
    for program in "$@"; do
        arguments+=(--package "$program")
    done
    say "Building for $RUST_TARGET ($profile): $*"
    cargo_build --profile "$profile" "${arguments[@]}" >&2 ||
        die "The build failed; cargo's message is above."
    mkdir -p "$OUT/bin"
    for program in "$@"; do
        make_image "$(build_folder "$profile")/$program" "$OUT/bin/$program.bin"
    done
}

main() {
    cd "$ROOT"
    if [[ ${1:-} == selftest ]]; then
        build_selftest
        return
    fi
    local programs=("$@") program release=() others=()
    (($#)) || mapfile -t programs < <("$SCRIPTS/workspace.py" programs)
    ((${#programs[@]})) || die "The workspace has no program to build." "cargo metadata says more."
    if [[ $PROFILE == release ]]; then
        build_programs release "${programs[@]}"
        return
    fi
    for program in "${programs[@]}"; do
        if is_release_only "$program"; then release+=("$program"); else others+=("$program"); fi
    done
    build_programs release "${release[@]}"
    build_programs "$PROFILE" "${others[@]}"
}

main "$@"
