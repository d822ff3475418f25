#!/usr/bin/env bash
# Mutation testing: changes one thing at a time in the modules that .cargo/mutants.toml names, and looks whether a test
# fails. What no test notices is listed at the end, and then this fails; what can't be noticed is excluded there, with why.
#
# Usage: mutants.sh
#   FILE=mailbox.rs      only this file, or what matches this pattern: 'spmc/core/src/memory/**/*.rs'
#   MUTANTS_SHARD=1/8    only the first eighth of it
#   MUTANTS_JOBS=2       so many at a time
# What each one did is in target/mutants.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERSION=27.1.0
RESULTS=$TARGET_DIR/mutants

# package, its tests that are fast enough to be built and run for each mutant, but those of manifests
PACKAGES=(
    "tantalum-core    --lib --test=memory --test=scenario"
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

# The project's, but with FILE instead of its files. (On the command line one could only name more of them.)
configuration() {
    if [[ -z ${FILE:-} ]]; then
        cat .cargo/mutants.toml
    else
        printf "examine_globs = ['%s']\n" "$FILE"
        sed '/^examine_globs = \[/,/^\]/d' .cargo/mutants.toml
    fi
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
    local line package tests target status=0 results=()
    require_tool
    rm -rf "$RESULTS"
    mkdir -p "$RESULTS"
    configuration >"$RESULTS/mutants.toml"
    for line in "${PACKAGES[@]}"; do
        read -r package tests <<<"$line"
        local what=(--config "$RESULTS/mutants.toml" --package "$package")
        [[ -n $(cargo-mutants mutants --list "${what[@]}") ]] || continue
        results+=("$RESULTS/$package")
        shard what
        say "Mutants of $package"
        mkdir -p "$RESULTS/$package"
        for target in $tests; do
            what+=("--cargo-arg=$target")
        done
        nice cargo-mutants mutants "${what[@]}" --jobs "${MUTANTS_JOBS:-1}" --output "$RESULTS/$package" \
            -- -- --skip manifest || status=$?
        # 2: some were not noticed, 3: some ran into the time limit, which is noticed.
        ((status == 0 || status == 2 || status == 3)) || die "cargo-mutants could not do its work (status $status)."
    done
    ((${#results[@]})) || die "There is nothing to change in FILE=${FILE:-}." "It names files of tantalum-core or tantalum-stage2."
    "$SCRIPTS/mutants.py" "${results[@]}"
}

main "$@"
