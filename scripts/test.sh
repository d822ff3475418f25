#!/usr/bin/env bash
# Runs all tests: checks, tests on the host, tests on the target. The last line is "N passed, N failed, N skipped".
#
# Usage: test.sh [checks|host|target|new|linux]...    only these parts (all); new and linux need what target has built

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# What is booted: scenario, number of cores, and the SPMC if it is not the usual one.
BOOTS=(
    "demo 1 tantalum-selftest"
    "demo 4"
    "test 1"
    "test 4"
    "test-attacks 4"
    "test-restart 1"
    "test-restart 4"
    "vault 4"
    "test-interrupts 1"
    "test-interrupts 4"
    "test-virtual-gic 4"
    "test-limits 1"
    "test-limits 4"
    "foreign 4"
    "ffa-1-0 1"
    "ffa-1-1 4"
    "ffa-1-2 1"
)
LOGS=$OUT/logs

PASSED=0 FAILED=0 SKIPPED=0 SUMMARY=()

# record PART PASSED FAILED SKIPPED
record() {
    PASSED=$((PASSED + $2)) FAILED=$((FAILED + $3)) SKIPPED=$((SKIPPED + $4))
    SUMMARY+=("$(printf '%-24s %6d passed %4d failed %4d skipped' "$@")")
}

# count_lines LOG RESULT: how many lines "test NAME ... RESULT" there are.
count_lines() { grep --text --count --extended-regexp "^test \S+ \.\.\. $2" "$1" || true; }

# logged LOG COMMAND...: shows what the command prints and keeps it, and gives its status.
logged() {
    local log=$1
    shift
    "$@" 2>&1 | tee "$log"
    return "${PIPESTATUS[0]}"
}

run_checks() {
    local log=$LOGS/checks.log status=0 failed
    say "Checks: format, lints, documentation, rules of the workspace"
    logged "$log" "$SCRIPTS/check.sh" || status=$?
    failed=$(count_lines "$log" FAILED)
    ((status == 0 || failed > 0)) || failed=1
    record checks "$(count_lines "$log" ok)" "$failed" "$(count_lines "$log" skipped)"
}

run_host() {
    local log=$LOGS/host.log status=0 passed failed skipped packages=() name
    say "Tests on the host"
    for name in $("$SCRIPTS/workspace.py" host); do
        packages+=(--package "$name")
    done
    logged "$log" cargo test --no-fail-fast "${packages[@]}" || status=$?
    read -r passed failed skipped < <(awk '
        /^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { print passed + 0, failed + 0, ignored + 0 }' "$log")
    # A test program that does not compile, or dies, has no result line.
    ((status == 0 || failed > 0)) || failed=1
    record "host tests" "$passed" "$failed" "$skipped"
}

run_boot() {
    local scenario=$1 cores=$2 spmc=${3:-}
    [[ -z $spmc ]] || local -x SPMC=$OUT/bin/$spmc.bin
    record_boot "${scenario##*/}" "$cores" "${TIMEOUT:-300}" "$SCRIPTS/run.sh" --quiet "$scenario"
}

# record_boot SCENARIO CORES SECONDS COMMAND...: boots by the command and counts what the console then says.
record_boot() {
    local name=$1 cores=$2 limit=$3 status=0 passed failed skipped
    local console=$OUT/$name/console.log log=$LOGS/$name-$cores.log
    shift 3
    rm -f "$console" "$log"
    SMP=$cores TIMEOUT=$limit "$@" || status=$?
    touch "$log"
    [[ -e $console ]] && tr -d '\r' <"$console" >"$log"
    grep --text --extended-regexp '^test \S+ \.\.\. ' "$log" || true
    passed=$(count_lines "$log" ok) failed=$(count_lines "$log" FAILED) skipped=$(count_lines "$log" skipped)
    if ((status != 0)); then
        ((failed > 0)) || failed=1
        echo "---- the last lines of $log ----"
        tail -n 40 "$log"
        echo "----"
    fi
    # A demonstration prints a verdict, but no list of tests.
    ((passed + failed > 0)) || passed=1
    record "$name, $cores core(s)" "$passed" "$failed" 0
    ((skipped == 0)) || SUMMARY[-1]+=" ($skipped are for other boots)"
}

# test_names RESULTS LOG...: the names of tests that had one of the results, each once.
test_names() {
    local results=$1
    shift
    sed -nE "s/^test (\S+) \.\.\. ($results).*/\1/p" "$@" | sort --unique
}

# A test that this boot can't do is another's; only one that none can do is skipped.
record_skipped_everywhere() {
    local names
    names=$(comm -23 <(test_names skipped "$@") <(test_names 'ok|FAILED' "$@"))
    [[ -n $names ]] || return 0
    record "in no boot" 0 0 "$(wc -l <<<"$names")"
    printf 'skipped in every boot: %s\n' "$names"
}

run_target() {
    local boot scenario cores spmc logs=()
    if ! "$SCRIPTS/build.sh" selftest || ! "$SCRIPTS/build.sh"; then
        record build 0 1 0
        return
    fi
    for boot in "${BOOTS[@]}"; do
        read -r scenario cores spmc <<<"$boot"
        run_boot "$scenario" "$cores" "$spmc"
        logs+=("$LOGS/$scenario-$cores.log")
    done
    record_skipped_everywhere "${logs[@]}"
    run_shell
}

# What is typed at the shell, and what must show then.
run_shell() {
    local script=partitions/shell/test.txt
    if SCRIPT=$script TIMEOUT=${TIMEOUT:-300} "$SCRIPTS/shell.sh" --quiet demo; then
        echo "test shell::answers ... ok"
        record "the shell" 1 0 0
    else
        tail -n 40 "$OUT/demo/console.log" || true
        echo "test shell::answers ... FAILED"
        record "the shell" 0 1 0
    fi
}

# Linux with OP-TEE, what does not take long.
run_linux() {
    record_boot linux 4 "${TIMEOUT:-600}" "$SCRIPTS/linux.sh" --quiet test
}

# Partitions that `make new` makes, in a copy of the tree: they must compile, boot and answer.
run_new() {
    local name=newcomer another=newcomer-at-el0 tree
    tree=$(mktemp -d "${TMPDIR:-/tmp}/tantalum-tree.XXXXXX")
    tar --create --exclude=target --exclude=./.git . | tar --extract --directory="$tree"
    if NAME=$name CONTEXTS=4 "$tree/scripts/new.py" && NAME=$another IN=$name EL=0 "$tree/scripts/new.py" &&
        CARGO_TARGET_DIR=$TARGET_DIR "$tree/scripts/build.sh" "tantalum-$name" "tantalum-$another"; then
        run_boot "$tree/manifests/qemu/$name" 4
    else
        record "$name" 0 1 0
    fi
    rm -rf "$tree" "$OUT/bin/tantalum-$name.bin" "$OUT/bin/tantalum-$another.bin"
}

main() {
    cd "$ROOT"
    mkdir -p "$LOGS"
    local part parts=("$@") started=$SECONDS
    ((${#parts[@]})) || parts=(checks host target new linux)
    for part in "${parts[@]}"; do
        case $part in
        checks | host | target | new | linux) "run_$part" ;;
        *) die "There is no part $part of the tests." "There are: checks, host, target, new, linux." ;;
        esac
    done
    say "Summary, after $((SECONDS - started)) s"
    printf '    %s\n' "${SUMMARY[@]}" >&2
    echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
    ((FAILED == 0 && PASSED > 0))
}

main "$@"
