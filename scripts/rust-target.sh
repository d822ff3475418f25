#!/usr/bin/env bash
# Makes sure that rustc can compile for the bare-metal target: by rustup, and where rustup can't reach its server, from
# the sources of Rust that Debian packages.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$SCRIPTS/debian.sh"

# Suites that may have the sources of a Rust newer than the system's own, in the order to ask them.
DEBIAN_SUITES=(trixie-backports trixie forky forky-backports sid)
UBUNTU_SUITES=(resolute resolute-updates questing stonking)

rustc_version() { rustc --version | awk '{ print $2 }'; }

# The libraries that this script built say for which rustc, since rustup does not know of them and won't renew them.
STAMP_NAME='built-by-tantalum-for'

target_works() {
    local folder=$1
    compgen -G "$folder/lib/libcore-*.rlib" >/dev/null || return 1
    [[ ! -e $folder/$STAMP_NAME ]] || [[ $(<"$folder/$STAMP_NAME") == "$(rustc --version)" ]]
}

add_by_rustup() {
    command -v rustup >/dev/null || return 1
    say "Adding the Rust target $RUST_TARGET (rustup target add)"
    local log=$WORK/rustup.log
    RUST_BACKTRACE=0 RUSTUP_MAX_RETRIES=1 timeout 300 rustup target add "$RUST_TARGET" >"$log" 2>&1 && return
    note "It can't: $(tail -n 1 "$log" | sed 's/.*): //; s/^ *[0-9]*: *//')"
    return 1
}

# fetch_rust_source VERSION FOLDER: Debian's package rust-src of just that version.
fetch_rust_source() {
    local version=$1 folder=$2 id suites suite found
    read -r id _ < <(distribution)
    if [[ $id == ubuntu ]]; then suites=("${UBUNTU_SUITES[@]}"); else suites=("${DEBIAN_SUITES[@]}"); fi
    for suite in "${suites[@]}"; do
        use_apt "$suite" "$(source_line deb "$(system_mirror)" "$suite")"
        own_apt_update || continue
        found=$(own_apt_cache madison rust-src | awk -v want="$version" '
            { have = $3; sub(/[^0-9.].*/, "", have); if (have == want) { print $3; exit } }')
        [[ -n $found ]] || continue
        (cd "$WORK" && own_apt download "rust-src=$found")
        dpkg-deb --extract "$WORK"/rust-src_*.deb "$WORK/rust-src"
        publish "$WORK/rust-src/usr/src/rustc-$version" "$folder"
        return
    done
    echo "None of these suites has rust-src $version: ${suites[*]}"
    return 1
}

# Cargo looks for the sources in the toolchain.
link_rust_source() {
    local folder=$1 link=$2/lib/rustlib/src/rust
    [[ -e $link/library/Cargo.lock ]] && return
    mkdir -p "$(dirname "$link")"
    rm -f "$link"
    ln -s "$folder" "$link"
}

# Builds core, alloc and compiler_builtins as rustup's are built, and lays them where rustup would.
build_target() {
    local sysroot=$1 crate=$WORK/crate source built
    source=$(realpath "$sysroot/lib/rustlib/src/rust")
    mkdir -p "$crate/src" "$WORK/target/lib"
    printf '[package]\nname = "nothing"\nedition = "2024"\n[profile.release]\npanic = "abort"\ncodegen-units = 1\n' \
        >"$crate/Cargo.toml"
    printf '#![no_std]\nextern crate alloc;\n' >"$crate/src/lib.rs"
    (
        cd "$crate"
        export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$crate/target
        export RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=$source=/rust"
        cargo build --release --target "$RUST_TARGET" -Zbuild-std=core,alloc,compiler_builtins \
            -Zbuild-std-features=compiler-builtins-mem
    )
    built=$crate/target/$RUST_TARGET/release/deps
    rm -f "$built"/libnothing-*
    cp "$built"/lib*.rlib "$WORK/target/lib/"
    rustc --version >"$WORK/target/$STAMP_NAME"
    publish "$WORK/target" "$sysroot/lib/rustlib/$RUST_TARGET"
}

add_from_debian() {
    local sysroot=$1 version source
    version=$(rustc_version)
    source=$CACHE/rust-src-$version
    [[ -w $sysroot/lib/rustlib ]] || die "Can't add the Rust target $RUST_TARGET: $sysroot is not yours to write." \
        "As the toolchain's owner: rustup target add $RUST_TARGET"
    local hint="With a network that rustup can use this is one command: rustup target add $RUST_TARGET"
    require_apt "the Rust target $RUST_TARGET (rustup target add $RUST_TARGET)"
    if [[ ! -e $source/library/Cargo.lock ]]; then
        step "Fetching the sources of Rust $version from Debian" "$hint" \
            fetch_rust_source "$version" "$source"
    fi
    link_rust_source "$source" "$sysroot"
    step "Building the Rust target $RUST_TARGET" "$hint" build_target "$sysroot"
}

# For make check. Without them it skips what needs them.
add_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    say "Adding rustfmt and clippy (rustup component add)"
    if ! command -v rustup >/dev/null || ! timeout 300 rustup component add rustfmt clippy >&2; then
        warn "no rustfmt or no clippy: make check will skip what needs them"
    fi
}

add_target() {
    local sysroot folder
    sysroot=$(rustc --print sysroot)
    folder=$sysroot/lib/rustlib/$RUST_TARGET
    target_works "$folder" && return
    lock rust-target
    target_works "$folder" && return
    rm -rf "$folder"
    make_work_dir
    add_by_rustup || add_from_debian "$sysroot"
}

main() {
    command -v rustc >/dev/null || die "There is no rustc." "Install Rust first, with rustup or your distribution."
    add_target
    add_components
}

main "$@"
