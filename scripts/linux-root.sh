#!/usr/bin/env bash
# Gets Debian's arm64 Linux and the programs that use OP-TEE, and packs them: prints the folder with
#   Image             the kernel
#   initramfs.cpio    busybox, the kernel's FF-A and OP-TEE drivers, tee-supplicant, xtest and its trusted applications,
#                     what is in scripts/guest, and the folders that were given
#
# Usage: linux-root.sh FOLDER [EXTRA FOLDER]...    packs into FOLDER
#   LINUX_IMAGE=<file> LINUX_MODULES=<folder>   a kernel of one's own, and a folder in which its modules are (*.ko, *.ko.xz)
#   DEB_DIR, DEBIAN_MIRROR                      see foreign.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$SCRIPTS/debian.sh"
source "$SCRIPTS/foreign.sh"

KERNEL=(linux-binary linux-modules)
PROGRAMS=(
    busybox-static libc6 libssl3t64 libzstd1 zlib1g
    libteec2 libckteec0t64 tee-supplicant optee-test-qemu optee-os-dev
)
# In the order in which they have to be inserted.
MODULES=(tee ffa-core ffa-module optee)
# Of OP-TEE's own trusted applications, those that its tests use.
BUNDLED_TAS=usr/lib/optee-os-dev/vexpress-qemu_armv8a/ta

unpack_modules() {
    python3 - "$1" "$2" "${MODULES[@]}" <<'EOF'
import lzma, sys
from pathlib import Path

source, to, *names = sys.argv[1:]
found = {path.name.partition(".")[0]: path for path in Path(source).rglob("*.ko*")}
for name in names:
    if name not in found:
        sys.exit(f"there is no module {name} in {source}")
    data = found[name].read_bytes()
    Path(to, f"{name}.ko").write_bytes(lzma.decompress(data) if found[name].suffix == ".xz" else data)
Path(to, "order").write_text("\n".join(names) + "\n")
EOF
}

# The names of xtest's cases are in the program, which has no option to list them.
write_cases() {
    python3 - "$1" >"$2" <<'EOF'
import re, sys

program = open(sys.argv[1], "rb").read()
print("\n".join(sorted({match.decode() for match in re.findall(rb"(?:regression|pkcs11)_\d{4}(?:_[a-z0-9]+)?(?=\0)", program)})))
EOF
}

# A kernel that is its own boot loader's compressed file would not run where it is put.
check_image() {
    [[ $(dd if="$1" bs=1 skip=56 count=4 status=none) == ARMd ]] ||
        die "$1 is no uncompressed arm64 kernel (Image)." "Choose another one: LINUX_IMAGE=<Image> LINUX_MODULES=<folder>"
}

unpack_kernel() {
    local image=${LINUX_IMAGE:-} modules=${LINUX_MODULES:-}
    if [[ -z $image ]]; then
        unpack_debs "$WORK/kernel" "${KERNEL[@]}"
        image=$(compgen -G "$WORK/kernel/usr/lib/modules/*/vmlinuz" || compgen -G "$WORK/kernel/boot/vmlinuz*")
        modules=$WORK/kernel
    fi
    check_image "$image"
    cp "$image" "$WORK/done/Image"
    mkdir -p "$WORK/done/root/modules"
    unpack_modules "$modules" "$WORK/done/root/modules"
}

unpack_programs() {
    local root=$WORK/done/root link
    unpack_debs "$WORK/programs" "${PROGRAMS[@]}"
    mkdir -p "$root/usr"
    cp --recursive "$WORK/programs/$BUNDLED_TAS/." "$WORK/programs/usr/lib/optee_armtz/"
    rm -rf "$WORK/programs/usr/lib/optee-os-dev" "$WORK/programs/usr/lib/aarch64-linux-gnu/gconv"
    cp --recursive --no-dereference "$WORK/programs/usr/bin" "$WORK/programs/usr/sbin" "$WORK/programs/usr/lib" "$root/usr/"
    mkdir -p "$root/usr/share/tantalum"
    write_cases "$root/usr/bin/xtest" "$root/usr/share/tantalum/cases"
    for link in bin sbin lib; do
        ln -s "usr/$link" "$root/$link"
    done
}

unpack_all() {
    mkdir "$WORK/done"
    unpack_kernel
    unpack_programs
    publish "$WORK/done" "$1"
}

identity() {
    local package
    for package in "${KERNEL[@]}"; do
        if [[ -n ${LINUX_IMAGE:-} ]]; then stat --format '%n %s %Y' "$LINUX_IMAGE"; else basename "$(deb "$package")"; fi
    done
    for package in "${PROGRAMS[@]}"; do
        basename "$(deb "$package")"
    done
    cat "${BASH_SOURCE[0]}"
}

main() {
    (($# >= 1)) || die "Into which folder? For example: linux-root.sh $OUT/linux"
    local packed=$1 packages=("${PROGRAMS[@]}") folder
    [[ -z ${LINUX_IMAGE:-} || -n ${LINUX_MODULES:-} ]] || die "LINUX_IMAGE needs LINUX_MODULES=<folder> too."
    [[ -n ${LINUX_IMAGE:-} ]] || packages+=("${KERNEL[@]}")
    lock linux
    make_work_dir
    get_debs "${packages[@]}"
    folder=$CACHE/linux/$(identity | sha256sum | cut -c 1-16)
    [[ -e $folder ]] || step "Unpacking Linux and the programs that use OP-TEE" "$(other_way)" unpack_all "$folder"
    mkdir -p "$packed"
    ln -sfT "$folder/Image" "$packed/Image"
    "$SCRIPTS/initramfs.py" "$packed/initramfs.cpio" "$folder/root" "$SCRIPTS/guest" "${@:2}"
    echo "$packed"
}

main "$@"
