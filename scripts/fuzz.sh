#!/usr/bin/env bash
# Fuzzes the policy: each target of spmc/fuzz for a while, from the manifests of the tree and what earlier runs found.
#
# Usage: fuzz.sh [TARGET]...   (all)
#   FUZZ_SECONDS=60   how long each
# What makes a target fail is kept in spmc/fuzz/artifacts.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

FUZZ=$ROOT/spmc/fuzz

require_tools() {
    command -v c++ >/dev/null || die "libFuzzer needs a C++ compiler." "Install one: apt-get install g++"
    command -v cargo-fuzz >/dev/null ||
        step "Installing cargo-fuzz" "This needs a network once. Yourself: cargo install cargo-fuzz" cargo install --locked cargo-fuzz
}

# Sanitizers are for nightly compilers; this lets the one that the project is built with do it.
fuzz() {
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir "$FUZZ" "$1" -- -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=1
}

main() {
    cd "$ROOT"
    local targets=("$@") target failed=()
    require_tools
    ((${#targets[@]})) || mapfile -t targets < <(cd "$FUZZ/fuzz_targets" && basename --suffix .rs -- *.rs)
    "$FUZZ/seed.sh"
    for target in "${targets[@]}"; do
        say "Fuzzing $target for ${FUZZ_SECONDS:-60} s"
        fuzz "$target" || failed+=("$target")
    done
    ((${#failed[@]} == 0)) || die "Failed: ${failed[*]}." "Inputs that show it are in spmc/fuzz/artifacts."
    say "Nothing found in ${targets[*]}"
}

main "$@"
