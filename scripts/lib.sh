# shellcheck shell=bash
# What all scripts share: where things are, how they speak to people, locks and long steps.
# Sourced, never run.
# shellcheck disable=SC2034  # what is set here is used by those who source it

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SCRIPTS=$ROOT/scripts
CACHE=${TANTALUM_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set; set it or TANTALUM_CACHE}/.cache}/tantalum}
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
OUT=$TARGET_DIR/qemu
RUST_TARGET=aarch64-unknown-none-softfloat

# Tools that set-up unpacked for us come before the system's, which may be too old.
use_tools() {
    local folder
    for folder in "$CACHE"/tools/*/bin; do
        [[ -d $folder && :$PATH: != *":$folder:"* ]] && PATH=$folder:$PATH
    done
    export PATH
}
use_tools

# ---- Speaking ----

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' red=$'\e[31m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' red='' yellow='' plain=''
fi

say()  { printf '%s\n' "${bold}==>${plain} $*" >&2; }
note() { printf '%s\n' "    $*" >&2; }
warn() { printf '%s\n' "${yellow}warning:${plain} $*" >&2; }

# die WHAT [WHAT TO DO]...: each argument is a line.
die() {
    printf '%s\n' "${red}error:${plain} $1" >&2
    shift
    local line
    for line in "$@"; do
        printf '%s\n' "       $line" >&2
    done
    exit 1
}

# ---- Long steps ----

# Says every so often that the step is still going on, until it is killed. What it starts holds neither the lock nor the
# terminal, so that nobody waits for it.
tick() {
    local what=$1 started=$SECONDS
    if [[ -t 2 ]]; then
        while sleep 1 >/dev/null 2>&1 9>&-; do
            printf '\r    %s ... %d s ' "$what" $((SECONDS - started)) >&2
        done
    else
        while sleep 30 >/dev/null 2>&1 9>&-; do
            note "$what ... still at it after $((SECONDS - started)) s"
        done
    fi
}

# step WHAT HINT COMMAND...: runs the command with its output in a log, tells how long it took, and when it
# fails shows the end of the log and the hint, and ends the script. Never call it as a condition: the
# command would then run without `set -e`.
step() {
    local what=$1 hint=$2 started=$SECONDS log status ticker
    shift 2
    log=$(mktemp "${TMPDIR:-/tmp}/tantalum-step.XXXXXX")
    say "$what"
    tick "$what" &
    ticker=$!
    set +e
    (set -e; "$@") >"$log" 2>&1
    status=$?
    set -e
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    [[ -t 2 ]] && printf '\r\e[K' >&2
    if ((status != 0)); then
        tail -n 15 "$log" >&2
        die "$what: failed (the whole log: $log)" "$hint"
    fi
    rm -f "$log"
    note "done in $((SECONDS - started)) s"
}

# ---- Cache ----

# lock NAME: holds the lock until this shell ends. Two runs at the same time wait for each other.
lock() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/$1.lock"
    if ! flock --nonblock 9; then
        say "Waiting for another run to finish its part ($1)"
        flock 9
    fi
}

# A folder in the cache to build in, removed with everything in it when the shell ends.
# What is complete is renamed out of it, so the cache never holds anything half done.
make_work_dir() {
    mkdir -p "$CACHE"
    find "$CACHE" -maxdepth 1 -name 'work.*' -mmin +1440 -exec rm -rf {} + # of runs that were killed
    WORK=$(mktemp -d "$CACHE/work.XXXXXX")
    trap 'rm -rf "$WORK"' EXIT
}

# publish FROM TO: FROM is complete and takes TO's place.
publish() {
    mkdir -p "$(dirname "$2")"
    rm -rf "$2"
    mv -T "$1" "$2"
}

# ---- Crates ----

# fetch_crates [CARGO ARGUMENT]...: all that any build or test of the workspace needs, on this host and for the target.
fetch_crates() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    cargo fetch --manifest-path "$ROOT/Cargo.toml" --target "$RUST_TARGET" --target "$host" "$@"
}

# ---- Versions ----

# qemu_version PROGRAM: empty when it is no QEMU that starts.
qemu_version() { "$1" --version 2>/dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p' || true; }

# version_at_least HAVE WANT
version_at_least() {
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort --version-sort | head -n 1) == "$2" ]]
}
