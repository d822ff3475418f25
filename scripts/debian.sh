# shellcheck shell=bash
# Packages of Debian and Ubuntu without touching the system: an apt of our own, with its own lists and download
# folder, that takes the mirror from the machine's apt configuration and changes only the suite. Needs no root.
# Sourced after lib.sh.

APT_DIR=$CACHE/apt

# The distribution's name and release, e.g. "debian bookworm".
distribution() {
    # shellcheck source=/dev/null
    (. /etc/os-release && echo "${ID:-unknown} ${UBUNTU_CODENAME:-${VERSION_CODENAME:-unknown}}")
}

require_apt() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && return
    die "This machine has no apt-get, and set-up gets what is missing from Debian's or Ubuntu's packages." \
        "Install these by hand and run again: $1"
}

# The system's own archives as "URI SUITE", one a line; third parties' (other suite names) are left out.
system_archives() {
    local id codename
    read -r id codename < <(distribution)
    # shellcheck disable=SC2016  # apt fills these in
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY)' 2>/dev/null |
        awk -v codename="$codename" '
            $3 == "main" && $4 == "Packages" && !seen[$1 $2]++ {
                suite = $2
                sub(/-(updates|security|backports|proposed-updates)$/, "", suite)
                if (suite == codename || suite ~ /^((old)*stable|testing|unstable|sid)$/) print $1, $2
            }'
}

# The mirror that serves the distribution itself.
system_mirror() {
    system_archives | awk '$2 !~ /-/ { print $1; exit }'
}

# source_line TYPE URI SUITE: one line of a sources list, bound to the distribution's own key.
source_line() {
    local id key options=''
    read -r id _ < <(distribution)
    for key in /usr/share/keyrings/"$id"-archive-keyring.{gpg,pgp}; do
        [[ -e $key ]] && options=" [signed-by=$key]"
    done
    echo "$1$options $2 $3 main$([[ $id == ubuntu ]] && echo ' universe')"
}

# use_apt NAME LINE...: from here on `own_apt` works with these sources, under a name of their own in the cache.
use_apt() {
    local dir=$APT_DIR/$1
    shift
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
    printf '%s\n' "$@" >"$dir/sources.list"
    OWN_APT_CONFIG=$dir/apt.conf
    cat >"$OWN_APT_CONFIG" <<EOF
Dir::State "$dir/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$dir/cache";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
Debug::NoLocking "1";
APT::Sandbox::User "$(id -un)";
APT::Get::Assume-Yes "1";
APT::Install-Recommends "0";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "0";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "0";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
EOF
}

own_apt() { apt-get --config-file "$OWN_APT_CONFIG" "$@"; }
own_apt_cache() { apt-cache --config-file "$OWN_APT_CONFIG" "$@"; }

# Lists of packages are fetched afresh; when a part of them can't be had that is an error, not a warning.
own_apt_update() { own_apt -o APT::Update::Error-Mode=any update; }

# use_system_apt: the system's own suites, and on Debian its backports.
use_system_apt() {
    local id codename mirror uri suite lines=()
    read -r id codename < <(distribution)
    mirror=$(system_mirror)
    [[ -n $mirror ]] || die "apt knows no mirror of $id $codename on this machine." \
        "Put the distribution's own archive into /etc/apt/sources.list and run again."
    while read -r uri suite; do
        lines+=("$(source_line deb "$uri" "$suite")")
    done < <(system_archives)
    [[ $id == debian ]] && lines+=("$(source_line deb "$mirror" "$codename-backports")")
    use_apt system "${lines[@]}"
}

# unpack_packages FOLDER RELEASE PACKAGE...: the packages and those of their dependencies that the system lacks.
# RELEASE is a suite to prefer, such as the backports, or empty.
unpack_packages() {
    local folder=$1 release=$2
    shift 2
    rm -f "$APT_DIR"/system/cache/archives/*.deb
    own_apt install --download-only ${release:+--target-release "$release"} "$@"
    mkdir -p "$folder"
    local deb
    for deb in "$APT_DIR"/system/cache/archives/*.deb; do
        # The system's C library serves unpacked programs too: a second one beside its loader would not work.
        [[ ${deb##*/} == libc6_* ]] && continue
        dpkg-deb --extract "$deb" "$folder"
        rm -f "$deb"
    done
}
