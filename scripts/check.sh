#!/usr/bin/env bash
# Checks that need no test to run: format, lints, documentation, rules of the workspace.
# Prints "test check::NAME ... ok" or "... FAILED" for each, with what is wrong, and at the end the sum:
# "N passed, N failed, N skipped".

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

packages() {
    local name
    while read -r name; do
        printf -- '--package\n%s\n' "$name"
    done < <("$SCRIPTS/workspace.py" "$1")
}

# Without the tool a check is skipped: status 77.
require() { "$@" --version >/dev/null 2>&1 || { echo "there is no $*"; exit 77; }; }

check_format() {
    require cargo fmt
    cargo fmt --all --check
}

check_clippy_host() {
    require cargo clippy
    cargo clippy --quiet --all-targets "${HOST[@]}" -- --deny warnings
}

check_clippy_bare() {
    require cargo clippy
    cargo clippy --quiet --target "$RUST_TARGET" "${BARE[@]}" -- --deny warnings
}

check_documentation() {
    export RUSTDOCFLAGS='--deny warnings --allow rustdoc::private-intra-doc-links'
    cargo doc --quiet --no-deps --document-private-items "${HOST[@]}"
    cargo doc --quiet --no-deps --document-private-items --target "$RUST_TARGET" "${BARE[@]}"
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

check_lock_file() { fetch_crates --locked; }

check_packing() { python3 "$SCRIPTS/test_pack.py" --quiet; }

check_links() { python3 "$SCRIPTS/links.py"; }

check_places() { python3 "$SCRIPTS/test_where.py" --quiet; }

check_new_partition() { python3 "$SCRIPTS/test_new.py" --quiet; }

check_scripts() {
    require shellcheck
    shellcheck scripts/*.sh .ci/run
    # What runs in Linux finds its library only there.
    shellcheck --exclude SC1091 scripts/guest/init scripts/guest/usr/share/tantalum/{welcome,lib.sh,tests/*}
}

CHECKS=(format lock_file lints_inherited no_unsafe_in_policy packing places new_partition links scripts clippy_host clippy_bare documentation)

# Prints how the check went, and what is wrong if it did not go well. Counts it in PASSED, FAILED or SKIPPED.
run_check() {
    local log status
    log=$(mktemp "${TMPDIR:-/tmp}/tantalum-check.XXXXXX")
    set +e
    (set -e; "check_$1") >"$log" 2>&1
    status=$?
    set -e
    case $status in
    0)
        echo "test check::$1 ... ok"
        PASSED=$((PASSED + 1))
        ;;
    77)
        echo "test check::$1 ... skipped ($(tail -n 1 "$log"))"
        SKIPPED=$((SKIPPED + 1))
        ;;
    *)
        cat "$log"
        echo "test check::$1 ... FAILED"
        FAILED=$((FAILED + 1))
        ;;
    esac
    rm -f "$log"
}

main() {
    cd "$ROOT"
    local check
    PASSED=0 FAILED=0 SKIPPED=0
    mapfile -t HOST < <(packages host)
    mapfile -t BARE < <(packages bare)
    mapfile -t FOLDERS < <("$SCRIPTS/workspace.py" folders)
    for check in "${CHECKS[@]}"; do
        run_check "$check"
    done
    echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
    ((FAILED == 0))
}

main "$@"
