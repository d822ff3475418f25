# shellcheck shell=dash
# OP-TEE's own tests: those that are quick, or those that the command line names, or all. Each case is a run of its own, so
# that one that hangs or dies does not keep the others from being run.
. /usr/share/tantalum/lib.sh

# Sessions, invocations, shared memory, panics, cancellation, concurrency.
QUICK='regression_1001 regression_1002 regression_1003 regression_1004 regression_1005 regression_1006 regression_1008'
# A case that is not at its end by then hangs.
LIMIT=$(argument tantalum.limit 600)

cases() {
    local wanted
    wanted=$(argument tantalum.xtest quick)
    case $wanted in
    quick) echo "$QUICK" ;;
    all) cat "$TANTALUM/cases" ;;
    *) for case in $wanted; do grep -E "^(.*_)?$case$" "$TANTALUM/cases" || echo "$case"; done ;;
    esac
}

run_case() {
    local log=/tmp/xtest.log status=0 started
    started=$(uptime_seconds)
    timeout "$LIMIT" xtest "$1" >"$log" 2>&1 || status=$?
    echo "    $1: $(grep -E '^[0-9]+ subtests? of which' "$log"), from $started s to $(uptime_seconds) s"
    if [ "$status" = 0 ] && grep -q "^$1 OK" "$log"; then
        ok "xtest::$1"
    else
        failed "xtest::$1" "status $status; the end of what it printed:"
        tail -n 25 "$log" | sed 's/^/    /'
    fi
}

for case in $(cases); do
    run_case "$case"
done
