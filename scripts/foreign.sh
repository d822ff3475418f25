# shellcheck shell=bash
# Debian's packages for arm64, and sources, of the suites that known-good.tsv names: kept in the cache as they came, so
# that they are fetched once. Sourced after debian.sh.
#
#   DEB_DIR=<folder>       packages (*.deb) and unpacked sources (a folder "optee-os") in there are taken instead
#   DEBIAN_MIRROR=<uri>    an archive of Debian, on a machine whose own apt knows none (Ubuntu's)

KNOWN_GOOD=$SCRIPTS/known-good.tsv
DEBS=$CACHE/debs

# known PACKAGE: its version and suite. A name stands for what begins with it up to a version that is part of the name:
# "linux-binary" is linux-binary-7.3.4+deb13-cloud-arm64.
known_line() { awk -F '\t' -v name="$1" '$1 == name || $1 ~ "^" name "-[0-9]" { print; exit }' "$KNOWN_GOOD"; }
known_name() { known_line "$1" | cut -f 1; }
known_version() { known_line "$1" | cut -f 2; }
known_suite() { known_line "$1" | cut -f 3; }

# The names that other versions of a package have, as a glob.
name_glob() { sed -E 's/-[0-9][^-]*-/-[0-9]*-/' <<<"$1"; }

newest_of() { sort --version-sort | tail -n 1; }

# ---- What is there ----

# The files of a package that a folder holds: of the known version, or of any.
exact_deb() { compgen -G "$1/$(known_name "$2")_$(known_version "$2" | sed 's/:/%3a/')_*.deb" | newest_of; }
any_deb() { compgen -G "$1/$(name_glob "$(known_name "$2")")_*.deb" | newest_of; }

# deb PACKAGE: the file to take, or nothing.
deb() {
    local found=''
    [[ -z ${DEB_DIR:-} ]] || found=$(any_deb "$DEB_DIR" "$1")
    [[ -n $found ]] || found=$(exact_deb "$DEBS" "$1")
    [[ -n $found ]] || found=$(any_deb "$DEBS" "$1")
    echo "$found"
}

# source_folder PACKAGE: the folder with the files of a source package, or nothing.
source_folder() {
    local folder=$CACHE/sources/$1
    if [[ -n ${DEB_DIR:-} && -d $DEB_DIR/$1 ]]; then
        realpath "$DEB_DIR/$1"
    elif [[ -d ${folder}_$(known_version "src:$1") ]]; then
        echo "${folder}_$(known_version "src:$1")"
    else
        compgen -G "${folder}_*-*/" | newest_of | sed 's,/$,,'
    fi
}

# ---- Fetching ----

foreign_mirror() {
    local id
    read -r id _ < <(distribution)
    if [[ -n ${DEBIAN_MIRROR:-} ]]; then
        echo "$DEBIAN_MIRROR"
    elif [[ $id == debian ]]; then
        system_mirror
    fi
}

# use_suite SUITE TYPE [ARCHITECTURE]: own_apt works with that suite alone, for arm64 or another architecture.
use_suite() {
    local architecture=${3:-arm64} name=$1-$2${3:+-$3} keyring=/usr/share/keyrings/debian-archive-keyring signed='' key
    for key in "$keyring".{gpg,pgp}; do
        [[ -e $key ]] && signed=" [signed-by=$key]"
    done
    use_apt "$name" "$2$signed $(foreign_mirror) $1 main"
    : >"$APT_DIR/$name/status" # what this machine has installed is none of that architecture's business
    cat >>"$OWN_APT_CONFIG" <<EOF
Dir::State::status "$APT_DIR/$name/status";
APT::Architecture "$architecture";
#clear APT::Architectures;
APT::Architectures { "$architecture"; };
EOF
}

# apt-cache is content with a version that it does not have.
has_version() { [[ -n $(own_apt_cache show "$1=$2" 2>/dev/null) ]]; }

# What to ask apt for: the known version, or else the newest under that name or the newest of such names.
wanted() {
    local name version other newest=''
    name=$(known_name "$1") version=$(known_version "$1")
    if has_version "$name" "$version"; then
        echo "$name=$version"
        return
    fi
    # shellcheck disable=SC2053  # a glob is meant
    newest=$(own_apt_cache pkgnames "${1%%[0-9]*}" | while read -r other; do
        [[ $other == $(name_glob "$name") ]] && echo "$other"
    done | newest_of)
    echo "${newest:-$name}"
}

# fetch_debs SUITE PACKAGE...: each alone, so that one that can't be had does not keep the others.
fetch_debs() {
    local suite=$1 package
    shift
    use_suite "$suite" deb
    own_apt_update
    mkdir -p "$WORK/debs"
    for package in "$@"; do
        (cd "$WORK/debs" && own_apt download "$(wanted "$package")") || echo "$package can't be had"
    done
    mkdir -p "$DEBS"
    find "$WORK/debs" -name '*.deb' -exec mv -t "$DEBS" {} +
}

fetch_sources() {
    local package=$1 version got
    version=$(known_version "src:$1")
    use_suite "$(known_suite "src:$1")" deb-src
    own_apt_update
    mkdir -p "$WORK/sources"
    (cd "$WORK/sources" && own_apt source --download-only "$package=$version") ||
        (cd "$WORK/sources" && own_apt source --download-only "$package")
    got=$(compgen -G "$WORK/sources/${package}_*.dsc" | newest_of)
    publish "$WORK/sources" "$CACHE/sources/$(basename "$got" .dsc)"
}

# Which of the packages are missing in the cache.
missing_debs() {
    local package
    for package in "$@"; do
        [[ -n $(deb "$package") ]] || echo "$package"
    done
}

require_mirror() {
    require_apt "$1"
    [[ -n $(foreign_mirror) ]] || die "This machine's apt knows no archive of Debian, to fetch $1 from." \
        "Name one with DEBIAN_MIRROR=<uri>, or put the packages (arm64) into a folder: DEB_DIR=<folder>."
}

other_way() {
    echo "This needs a network once. Or put the packages (arm64, *.deb) into a folder and name it: DEB_DIR=<folder>."
}

# A version that is not the known one may work or not: said each time.
warn_of_other_version() {
    local package=$1 file=$2
    [[ $file == */"$(known_name "$package")_$(known_version "$package" | sed 's/:/%3a/')"_* ||
        -n ${DEB_DIR:-} && $file == "$DEB_DIR"/* ]] ||
        warn "$(basename "$file"): not the version known to work, $(known_name "$package") $(known_version "$package")"
}

# get_debs PACKAGE...: sees to it that `deb` finds each of them. Needs make_work_dir.
get_debs() {
    local missing suite package list
    mapfile -t missing < <(missing_debs "$@")
    if ((${#missing[@]})); then
        require_mirror "${missing[*]}"
        for suite in $(for package in "${missing[@]}"; do known_suite "$package"; done | sort --unique); do
            list=()
            for package in "${missing[@]}"; do
                [[ $(known_suite "$package") == "$suite" ]] && list+=("$package")
            done
            step "Fetching from Debian's $suite (arm64): ${list[*]}" "$(other_way)" fetch_debs "$suite" "${list[@]}"
        done
        mapfile -t missing < <(missing_debs "$@")
        suite=$(for package in "${missing[@]}"; do known_suite "$package"; done | sort --unique | paste -s -d ' ')
        ((${#missing[@]} == 0)) || die "Debian's $suite can't give (any more): ${missing[*]}" "$(other_way)"
    fi
    for package in "$@"; do
        warn_of_other_version "$package" "$(deb "$package")"
    done
}

# get_source PACKAGE: sees to it that `source_folder` finds it. Needs make_work_dir.
get_source() {
    local hint="This needs a network once. Or unpack its sources into a folder: DEB_DIR=<folder>, in it a folder $1."
    if [[ -z $(source_folder "$1") ]]; then
        require_mirror "the sources of $1"
        step "Fetching the sources of $1 from Debian's $(known_suite "src:$1")" "$hint" fetch_sources "$1"
    fi
    [[ $(source_folder "$1") == */"$1_$(known_version "src:$1")" || -n ${DEB_DIR:-} ]] ||
        warn "the sources $(basename "$(source_folder "$1")") are not the version known to work, $(known_version "src:$1")"
}

# ---- Unpacking ----

# unpack_debs FOLDER PACKAGE...
unpack_debs() {
    local folder=$1 package
    shift
    mkdir -p "$folder"
    for package in "$@"; do
        dpkg-deb --extract "$(deb "$package")" "$folder"
    done
}

# unpack_source PACKAGE TO: the sources with Debian's patches, in a folder TO of their own.
unpack_source() {
    local folder patch
    folder=$(source_folder "$1")
    mkdir -p "$2"
    if ! compgen -G "$folder/*.orig.tar.*" >/dev/null; then
        cp --recursive "$folder/." "$2"
        return
    fi
    # Python, since tar needs programs for what is compressed. Of the sources the archive's own folder is left out.
    python3 - "$2" "$folder" <<'EOF' || return
import sys, tarfile
from pathlib import Path

to, folder = map(Path, sys.argv[1:])
with tarfile.open(next(folder.glob("*.orig.tar.*"))) as archive:
    for member in archive.getmembers():
        member.name = member.name.partition("/")[2]
        if member.name:
            archive.extract(member, to)
with tarfile.open(next(folder.glob("*.debian.tar.*"))) as archive:
    archive.extractall(to)
EOF
    [[ -e $2/debian/patches/series ]] || return 0
    while read -r patch _; do
        [[ -z $patch || $patch == '#'* ]] || (cd "$2" && GIT_CEILING_DIRECTORIES=$(dirname "$2") git apply "debian/patches/$patch")
    done <"$2/debian/patches/series"
}
