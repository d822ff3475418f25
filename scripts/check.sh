#!/usr/bin/env bash
# Checks that need no test to run: format, lints, documentation, rules of the workspace.
# Prints "test check::NAME ... ok" or "... FAILED" for each, with what is wrong, and at the end "N passed, N failed".

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

packages() {
    local name
    while read -r name; do
        printf -- '--package\n%s\n' "$name"
    done < <("$SCRIPTS/workspace.py" "$1")
}

check_format() { cargo fmt --all --check; }

check_clippy_host() { cargo clippy --quiet --all-targets "${HOST[@]}" -- --deny warnings; }

check_clippy_bare() { cargo clippy --quiet --target "$RUST_TARGET" "${BARE[@]}" -- --deny warnings; }

check_documentation() {
    RUSTDOCFLAGS='--deny warnings' cargo doc --quiet --no-deps --document-private-items "${HOST[@]}"
    RUSTDOCFLAGS='--deny warnings' cargo doc --quiet --no-deps --document-private-items --target "$RUST_TARGET" "${BARE[@]}"
}

# Every member inherits the workspace's lints; nothing else would make them hold.
check_lints_inherited() {
    local folder bad=0
    for folder in "${FOLDERS[@]}"; do
        grep --quiet --null-data --perl-regexp '\n\[lints\]\nworkspace = true\n' "$folder/Cargo.toml" || {
            echo "$folder/Cargo.toml has no [lints] with workspace = true"
            bad=1
        }
    done
    return "$bad"
}

check_no_unsafe_in_policy() {
    local crate bad=0
    for crate in core stage2; do
        grep --quiet '^#!\[forbid(unsafe_code)\]' "spmc/$crate/src/lib.rs" || {
            echo "spmc/$crate/src/lib.rs does not forbid unsafe_code"
            bad=1
        }
        if grep --recursive --line-number 'cfg(target_\|core::arch\|std::arch' "spmc/$crate/src"; then
            echo "spmc/$crate must not depend on the machine it runs on"
            bad=1
        fi
    done
    return "$bad"
}

check_lock_file() { cargo metadata --locked --format-version 1 >/dev/null; }

check_scripts() {
    python3 "$SCRIPTS/test_pack.py" --quiet
    command -v shellcheck >/dev/null || return 0
    (cd "$SCRIPTS" && shellcheck --external-sources ./*.sh ../.ci/run)
}

CHECKS=(format lock_file lints_inherited no_unsafe_in_policy scripts clippy_host clippy_bare documentation)

main() {
    cd "$ROOT"
    local log check passed=0 failed=0
    mapfile -t HOST < <(packages host)
    mapfile -t BARE < <(packages bare)
    mapfile -t FOLDERS < <("$SCRIPTS/workspace.py" folders)
    log=$(mktemp "${TMPDIR:-/tmp}/tantalum-check.XXXXXX")
    for check in "${CHECKS[@]}"; do
        set +e
        (set -e; "check_$check") >"$log" 2>&1
        local status=$?
        set -e
        if ((status == 0)); then
            echo "test check::$check ... ok"
            passed=$((passed + 1))
        else
            cat "$log"
            echo "test check::$check ... FAILED"
            failed=$((failed + 1))
        fi
    done
    rm -f "$log"
    echo "$passed passed, $failed failed"
    ((failed == 0))
}

main "$@"
