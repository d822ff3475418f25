# shellcheck shell=dash
# What the programs in Linux share. Sourced.

TANTALUM=/usr/share/tantalum

# argument NAME [OTHERWISE]: what the kernel's command line says about NAME ("NAME=a,b": "a b").
argument() {
    local word
    # shellcheck disable=SC2013  # words are meant
    for word in $(cat /proc/cmdline); do
        case $word in "$1="*) echo "${word#*=}" | tr , ' ' && return ;; esac
    done
    echo "${2:-}"
}

# Seconds since the machine was switched on, as Linux counts them from its own start.
uptime_seconds() { cut -d ' ' -f 1 /proc/uptime; }

# Who is there, as the kernel tells it.
facts() {
    local device found=''
    echo "Linux $(uname -r) on $(nproc) cores, $(uptime_seconds) s after its start; its drivers say:"
    dmesg | sed -nE 's/^\[[^]]*\] ((ARM FF-A|optee): .*)/    \1/p'
    for device in /sys/bus/arm_ffa/devices/*; do
        [ -e "$device" ] || continue
        found=1
        echo "    ${device##*/}  $(cat "$device/modalias")"
    done
    [ -n "$found" ] || echo "    no partitions: nobody here speaks FF-A"
}

# ---- Results: a line each, counted at the end ----

RESULTS=/tmp/results

ok() { echo "test linux::$1 ... ok" | tee -a "$RESULTS"; }
failed() {
    echo "test linux::$1 ... FAILED" | tee -a "$RESULTS"
    shift
    [ $# = 0 ] || printf '    %s\n' "$@"
}
skipped() { echo "test linux::$1 ... skipped${2:+ ($2)}" | tee -a "$RESULTS"; }

# check NAME COMMAND...: ok when the command succeeds; else what it printed is shown.
check() {
    local name=$1 log=/tmp/check.log
    shift
    if "$@" >"$log" 2>&1; then
        ok "$name"
    else
        failed "$name"
        sed 's/^/    /' "$log"
    fi
}

count() { grep -c " \.\.\. $1" "$RESULTS" 2>/dev/null || true; }

no_complaints() { ! dmesg | grep -E 'BUG:|WARNING:|Oops|rcu: INFO'; }

run_tests() {
    local test
    facts
    : >"$RESULTS"
    for test in "$TANTALUM"/tests/*; do
        sh "$test" || failed "$(basename "$test")" "it ended with status $?"
    done
    check kernel_log no_complaints
    echo "linux: $(count ok) passed, $(count FAILED) failed, $(count skipped) skipped"
}

power_off() {
    [ ! -e /run/tee-supplicant.pid ] || kill "$(cat /run/tee-supplicant.pid)" 2>/dev/null
    sleep 0.2
    sync
    poweroff -f
    sleep 60
}
