#!/usr/bin/env bash
# Boots Debian's Linux in the normal world, with OP-TEE and partitions of our own in the secure world.
#
# Usage: linux.sh [--quiet] [test]    without "test" Linux gives a shell on this terminal, with it it runs its tests and powers off
#        linux.sh run PROGRAM    it runs that program and powers off
#   XTEST='1001 4001'      the cases of OP-TEE's test suite to run in the tests; "all" for all
#   LINUX_ARGS='...'       more for the kernel's command line
#   FFA_MODULE=no          without the kernel module of ffa-module.sh
#   LINUX_EXTRA='a b'      folders whose content is put into Linux's root too
#   SPD=opteed             no SPMC: OP-TEE alone in the secure world, under TF-A's classic dispatcher
# and what run.sh, pack.sh, tfa.sh, optee.sh and linux-root.sh take.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SCENARIO=linux
[[ ${SPD:-spmd} == spmd ]] || SCENARIO=$SPD
PACKED=$OUT/$SCENARIO
# Where TF-A is told that the kernel is, and where it finds the rest.
KERNEL_ADDRESS=0x60000000
INITRAMFS_ADDRESS=0x68000000
INITRAMFS_LIMIT=0x80000000

# What the boot loader would tell Linux.
write_chosen() {
    local size arguments="console=ttyAMA0 panic=-1 $1 ${LINUX_ARGS:-}"
    size=$(stat --format %s "$PACKED/initramfs.cpio")
    ((INITRAMFS_ADDRESS + size <= INITRAMFS_LIMIT)) || die "The initramfs is too big: $size bytes."
    cat >"$PACKED/chosen.dtsi" <<EOF
/ {
	chosen {
		bootargs = "${arguments//\"/}";
		linux,initrd-start = <0x0 $INITRAMFS_ADDRESS>;
		linux,initrd-end = <0x0 $(printf '%#x' $((INITRAMFS_ADDRESS + size)))>;
	};
};
EOF
}

# The folder with the kernel module. Linux does without, if there are no headers for its kernel.
ffa_module() {
    [[ ${FFA_MODULE:-yes} != no && -z ${LINUX_IMAGE:-} ]] || return 0
    "$SCRIPTS/ffa-module.sh" || warn "Linux gets no kernel module to send messages to partitions with."
}

main() {
    local quiet=()
    [[ ${1:-} == --quiet ]] && { quiet=(--quiet); shift; }
    local mode=${1:-shell} arguments=quiet programs extra=() qemu=()
    case $mode in
    shell) export TERMINAL=1 ;;
    test)
        arguments="loglevel=4 tantalum=test"
        [[ -z ${XTEST:-} ]] || arguments+=" tantalum.xtest=${XTEST// /,}"
        # All cases take 20 minutes and more, the quick ones one.
        export TIMEOUT=${TIMEOUT:-$([[ ${XTEST:-} == all ]] && echo 7200 || echo 600)}
        ;;
    run) arguments="quiet tantalum=run tantalum.run=${2:?which program?}" ;;
    *) die "There is no $mode." "There are: shell, test, run." ;;
    esac
    [[ $SCENARIO == linux || $SCENARIO == opteed ]] || die "SPD=$SPD is not known here." "There are: spmd, opteed."
    OPTEE=$("$SCRIPTS/optee.sh")
    [[ $SCENARIO == linux ]] || export SPMC=$OPTEE/tee-raw.bin SPMC_MANIFEST=none
    programs=$("$SCRIPTS/gp.sh" "$OPTEE")
    read -ra extra <<<"$programs $(ffa_module) ${LINUX_EXTRA:-}"
    "$SCRIPTS/linux-root.sh" "$PACKED" "$ROOT/manifests/qemu/$SCENARIO/root" "${extra[@]}" >/dev/null
    write_chosen "$arguments"
    export OPTEE BL33=none DTB_ADD=$PACKED/chosen.dtsi
    export TFA_FLAGS="ARM_LINUX_KERNEL_AS_BL33=1 PRELOADED_BL33_BASE=$KERNEL_ADDRESS ${TFA_FLAGS:-}"
    read -ra qemu <<<"${QEMU_ARGS:-}"
    exec "$SCRIPTS/run.sh" "${quiet[@]}" "$SCENARIO" "${qemu[@]}" \
        -device "loader,file=$PACKED/Image,addr=$KERNEL_ADDRESS,force-raw=on" \
        -device "loader,file=$PACKED/initramfs.cpio,addr=$INITRAMFS_ADDRESS,force-raw=on"
}

main "$@"
