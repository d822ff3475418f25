#!/usr/bin/env bash
# Gets what is missing to build, boot and test Tantalum: tools, the Rust target, crates, TF-A. Changes nothing on the system
# but the Rust toolchain's own folder (as rustup does) and, where there is no C compiler at all, that.
# When everything is there it does nothing, takes no time and needs no network.
#
# Usage: setup.sh [--print-env]    --print-env: shell lines that put the tools into PATH

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$SCRIPTS/debian.sh"

# tool, Debian package, what for
TOOLS=(
    "aarch64-linux-gnu-gcc      gcc-aarch64-linux-gnu   compiles TF-A"
    "aarch64-linux-gnu-objcopy  gcc-aarch64-linux-gnu   turns programs into raw images"
    "dtc                        device-tree-compiler    compiles manifests"
    "python3                    python3                 packs images"
    "qemu-system-aarch64        qemu-system-arm         is the machine they boot on"
)
MIN_QEMU=8.2
MIN_PYTHON=3.7

NETWORK_HINT="This needs a network once, never again after that. Check the connection and run it again."

# ---- Tools ----

python_version() { python3 --version 2>/dev/null | sed 's/Python //'; }

# usable TOOL: it is there, starts, and is new enough. A QEMU that the user chose is checked elsewhere.
usable() {
    [[ $1 == qemu-system-aarch64 && -n ${QEMU:-} ]] && return
    command -v "$1" >/dev/null || return 1
    case $1 in
    qemu-system-aarch64) version_at_least "$(qemu_version "$1")" "$MIN_QEMU" ;;
    python3) version_at_least "$(python_version)" "$MIN_PYTHON" ;;
    *) "$1" --version >/dev/null 2>&1 ;;
    esac
}

# Only a distribution that is too old gets here with something missing.
check_tools() {
    local package
    use_tools
    for package in $(missing_packages); do
        die "This distribution's $package is too old: QEMU $MIN_QEMU and Python $MIN_PYTHON or newer are needed." \
            "Use a newer release of it, or set QEMU=<path of a newer qemu-system-aarch64>."
    done
}

# The packages of the tools that are not usable, each once.
missing_packages() {
    local line tool package
    for line in "${TOOLS[@]}"; do
        read -r tool package _ <<<"$line"
        usable "$tool" || echo "$package"
    done | sort --unique
}

tools_of() {
    local line tool package
    for line in "${TOOLS[@]}"; do
        read -r tool package _ <<<"$line"
        [[ $package != "$1" ]] || echo "$tool"
    done
}

# Empty when the system's own release is new enough, else the suite that has a newer one.
release_for() {
    [[ $1 == qemu-system-arm ]] || return 0
    local id codename candidate
    candidate=$(own_apt_cache policy qemu-system-arm | awk '/Candidate:/ { sub(/^[0-9]+:/, "", $2); print $2 }')
    version_at_least "${candidate%%[!0-9.]*}" "$MIN_QEMU" && return 0
    read -r id codename < <(distribution)
    [[ $id == debian ]] && echo "$codename-backports"
}

# A program in an unpacked package finds its own files beside itself; only the libraries have to be pointed at.
write_wrapper() {
    local folder=$1 tool=$2 library_dirs=''
    local dir
    for dir in "$folder"/root/usr/lib/*-linux-gnu "$folder"/root/lib/*-linux-gnu; do
        [[ -d $dir ]] && library_dirs+="\$root${dir#"$folder/root"}:"
    done
    cat >"$folder/bin/$tool" <<EOF
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/../root
LD_LIBRARY_PATH=${library_dirs%:}\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH} exec "\$root/usr/bin/$tool" "\$@"
EOF
    chmod +x "$folder/bin/$tool"
}

# Not only the tools that are asked for: a compiler calls its assembler, by this name or the one it has in the folder of
# the target's tools.
write_wrappers() {
    local folder=$1 path tool
    mkdir -p "$folder/bin"
    for path in "$folder"/root/usr/bin/*; do
        write_wrapper "$folder" "${path##*/}"
    done
    for path in "$folder"/root/usr/*-linux-gnu/bin/*; do
        [[ -L $path ]] || continue
        tool=$(basename "$(readlink "$path")")
        [[ ! -f $folder/bin/$tool ]] || ln -sfr "$folder/bin/$tool" "$path"
    done
}

fetch_tool_package() {
    local package=$1 folder=$WORK/$1 tool
    unpack_packages "$folder/root" "$(release_for "$package")" "$package"
    write_wrappers "$folder"
    for tool in $(tools_of "$package"); do
        "$folder/bin/$tool" --version || return
    done
    publish "$folder" "$CACHE/tools/$package"
}

get_tools() {
    local packages package
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]})) || return 0
    require_apt "${packages[*]}"
    local by_hand="Or install them yourself: apt-get install ${packages[*]} (QEMU $MIN_QEMU or newer)."
    say "Missing: ${packages[*]}. They are unpacked into $CACHE/tools; the system stays as it is."
    make_work_dir
    use_system_apt
    step "Fetching the lists of packages" "$NETWORK_HINT $by_hand" own_apt_update
    for package in "${packages[@]}"; do
        step "Fetching $package and what it needs" "$NETWORK_HINT $by_hand" fetch_tool_package "$package"
    done
    check_tools
}

# ---- The host's C compiler: cargo links with it ----

as_root() {
    if ((EUID == 0)); then "$@"; else sudo --non-interactive "$@"; fi
}

install_host_compiler() {
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update && as_root apt-get install --yes --no-install-recommends gcc libc6-dev
}

get_host_compiler() {
    command -v cc >/dev/null && return
    local command="apt-get install gcc libc6-dev"
    require_apt "gcc libc6-dev"
    if ((EUID != 0)) && ! sudo --non-interactive true 2>/dev/null; then
        die "There is no C compiler (cc), which cargo links with, and no right to install one." \
            "An administrator can install it: $command"
    fi
    step "Installing the C compiler that cargo links with" "$NETWORK_HINT Or yourself: $command" install_host_compiler
}

# ---- Crates ----

# Those of the tests too, so that whatever is called next works without a network.
get_crates() {
    fetch_crates --quiet || die "The crates that Tantalum depends on could not be fetched." "$NETWORK_HINT"
}

# ---- All of it ----

check_qemu_choice() {
    [[ -n ${QEMU:-} ]] || return 0
    local version
    version=$(qemu_version "$QEMU")
    [[ -n $version ]] || die "QEMU=$QEMU is not a QEMU that starts."
    version_at_least "$version" "$MIN_QEMU" ||
        die "QEMU=$QEMU is version $version; $MIN_QEMU or newer is needed." "Leave QEMU unset and set-up gets one."
}

main() {
    if [[ ${1:-} == --print-env ]]; then
        echo "export PATH='$PATH'"
        return
    fi
    check_qemu_choice
    if [[ -n $(missing_packages) ]] || ! command -v cc >/dev/null; then
        lock setup
        use_tools # that another run may have got meanwhile
        get_host_compiler
        get_tools
    fi
    "$SCRIPTS/rust-target.sh"
    get_crates
    "$SCRIPTS/tfa.sh" >/dev/null
}

main "$@"
