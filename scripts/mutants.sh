#!/usr/bin/env bash
# Mutation testing: changes one thing at a time in the modules that .cargo/mutants.toml names, and looks whether a test
# fails. What no test notices is listed at the end, and then this fails; what can't be noticed is excluded there, with why.
#
# Usage: mutants.sh
#   FILE=memory/send     only mutants with this in their path or name (a regular expression)
#   MUTANTS_SHARD=1/8    only the first eighth of it
#   MUTANTS_JOBS=2       so many at a time
# What each one did is in target/mutants.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERSION=27.1.0
RESULTS=$TARGET_DIR/mutants

# package, its tests that are fast enough to run for each mutant
PACKAGES=(
    "tantalum-core    --lib --test memory --test scenario -- --skip manifest"
    "tantalum-stage2  --lib"
)

require_tool() {
    local folder=$CACHE/tools/cargo-mutants
    [[ $(cargo-mutants mutants --version 2>/dev/null) != "cargo-mutants $VERSION" ]] || return 0
    lock setup
    make_work_dir
    step "Installing cargo-mutants $VERSION" "This needs a network once." \
        cargo install --quiet --locked --version "$VERSION" --target-dir "$WORK/target" --root "$WORK/root" cargo-mutants
    publish "$WORK/root" "$folder"
    use_tools
}

# shard ARGUMENTS: adds to them; people count from 1.
shard() {
    local -n arguments=$1
    [[ -n ${MUTANTS_SHARD:-} ]] || return 0
    if ! [[ $MUTANTS_SHARD =~ ^([1-9][0-9]*)/([1-9][0-9]*)$ ]] || ((BASH_REMATCH[1] > BASH_REMATCH[2])); then
        die "MUTANTS_SHARD=$MUTANTS_SHARD: expected a part and how many there are, say 1/8."
    fi
    arguments+=(--shard "$((BASH_REMATCH[1] - 1))/${BASH_REMATCH[2]}")
}

main() {
    cd "$ROOT"
    local line package tests chosen=() status=0 results=()
    require_tool
    rm -rf "$RESULTS"
    [[ -z ${FILE:-} ]] || chosen+=(--re "$FILE")
    for line in "${PACKAGES[@]}"; do
        read -r package tests <<<"$line"
        local what=(--package "$package" "${chosen[@]}")
        [[ -n $(cargo-mutants mutants --list "${what[@]}") ]] || continue
        results+=("$RESULTS/$package")
        shard what
        say "Mutants of $package"
        mkdir -p "$RESULTS/$package"
        # shellcheck disable=SC2086  # they are words
        nice cargo-mutants mutants "${what[@]}" --jobs "${MUTANTS_JOBS:-1}" --output "$RESULTS/$package" -- $tests || status=$?
        # 2: some were not noticed, 3: some ran into the time limit, which is noticed.
        ((status == 0 || status == 2 || status == 3)) || die "cargo-mutants could not do its work (status $status)."
    done
    ((${#results[@]})) || die "There is nothing to change in FILE=${FILE:-}." "It must match something that .cargo/mutants.toml names."
    "$SCRIPTS/mutants.py" "${results[@]}"
}

main "$@"
