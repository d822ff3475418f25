#!/usr/bin/env bash
# Boots a scenario on QEMU's machine "virt" and says how it went. Needs nobody at the keyboard.
#
# Usage: run.sh [--quiet] SCENARIO [QEMU ARGUMENT]...
#   SMP=n         cores (4)
#   ICOUNT=1      one core that executes one instruction a nanosecond of its own time: repeatable counts
#   GDB=1         wait for a debugger on port 1234 before the first instruction
#   QEMU=path     the QEMU to use
#   TIMEOUT=s     seconds after which the machine is stopped (120; with a debugger, never)
#   MEMORY=1G     memory of the normal world
#   DTB_ADD=file  device tree source that is added to the machine's own tree, which the normal world then gets
#   TERMINAL=1    somebody sits at the terminal: what is typed goes to the machine, until it powers off or Ctrl-A X
#   INPUT=file    what is typed: lines, sent once PROMPT (a regex) shows on the console
#   EXPECT=regex  success is that this line was seen and the machine powered off, instead of the verdict of
#                 Tantalum's own normal world ("tantalum: N passed, 0 failed"); for normal worlds that others wrote
# and all that pack.sh takes. The console is in target/qemu/SCENARIO/console.log, the secure UART in uart1.log.
# Exit: 0 as it should be, 1 not so, 2 could not be started.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

MACHINE=(
    -machine "virt,secure=on,virtualization=on,gic-version=3"
    -cpu max -m "${MEMORY:-1G}"
    -display none -monitor none -nic none -no-reboot
)
VERDICT='^(tantalum|linux): [0-9]+ passed, [0-9]+ failed'
GRACE=10

# What shows in the log that a stage was reached, and what is likely wrong when nothing came after it.
STAGES=(
    "BL1:|BL1 (TF-A)|BL1 finds no BL2 in the flash image."
    "BL2:|BL2 (TF-A)|It loads all other images: look at sizes, addresses and UUIDs. TFA_DEBUG=1 makes it say more."
    "BL31:|BL31 (TF-A)|SPMD refuses the SPMC's manifest, or the SPMC is silent. TFA_DEBUG=1 makes it say more."
    "^tantalum: booting|the SPMC|See the last lines of the console."
    "^tantalum: normal world|the normal world|See the last lines of the console."
    "Booting Linux|Linux's kernel|See the last lines of the console."
    "^Linux [0-9]|Linux's first program|See the last lines of the console."
)

cores() { if [[ ${ICOUNT:-0} == 1 ]]; then echo 1; else echo "${SMP:-4}"; fi; }

# Fills COMMAND with the call of QEMU.
qemu_command() {
    local flash=$1 log=$2 console=''
    shift 2
    [[ ${TERMINAL:-0} == 1 ]] && console=,mux=on
    COMMAND=("${QEMU:-qemu-system-aarch64}" "${MACHINE[@]}" -smp "$(cores)" -bios "$flash"
        -chardev "stdio,id=console,signal=off,logfile=$log$console" -serial chardev:console
        -serial "file:${log%/*}/uart1.log"
        -fw_cfg "name=opt/tantalum/partitions,file=${log%/*}/partitions")
    [[ ${ICOUNT:-0} == 1 ]] && COMMAND+=(-icount "shift=0,sleep=off")
    [[ ${GDB:-0} == 1 ]] && COMMAND+=(-gdb tcp:localhost:1234 -S)
    COMMAND+=("$@")
    [[ -z ${DTB_ADD:-} ]] || add_to_tree "${log%/*}/machine" "$DTB_ADD"
}

# add_to_tree TREE SOURCE: makes TREE.dtb of the machine's own device tree and SOURCE, and has the machine use it.
add_to_tree() {
    local tree=$1
    "${COMMAND[@]}" -machine dumpdtb="$tree.dtb" </dev/null >"$tree.log" 2>&1 ||
        die "QEMU does not print its device tree: $(tail -n 1 "$tree.log")"
    { dtc -q -I dtb -O dts "$tree.dtb" && cat "$2"; } >"$tree.dts"
    dtc -q -I dts -O dtb -o "$tree.dtb" "$tree.dts" || die "DTB_ADD=$2 does not go with the machine's own device tree."
    COMMAND+=(-dtb "$tree.dtb")
}

# What the machine prints, as it comes, without what would upset a terminal.
show_console() { stdbuf -o0 tr -d '\000\033\r'; }

stop_machine() {
    [[ -n ${MACHINE_PID:-} ]] && kill "$MACHINE_PID" 2>/dev/null
    MACHINE_PID=''
}

# Waits for the machine to power off by itself. Fills ENDING with how it ended: off, late, hung.
wait_for_machine() {
    local log=$1 limit=$2 expected=$3 started=$SECONDS seen=''
    ENDING=off
    while kill -0 "$MACHINE_PID" 2>/dev/null; do
        sleep 0.1
        if [[ -z $seen ]] && grep --quiet --text --extended-regexp "$expected" "$log" 2>/dev/null; then
            seen=$SECONDS
        fi
        if [[ -n $seen ]] && ((SECONDS - seen > GRACE)); then
            ENDING=hung
            break
        elif ((SECONDS - started > limit)) && [[ ${GDB:-0} != 1 ]]; then
            ENDING=late
            break
        fi
    done
    stop_machine || true
}

# What is typed, when the machine is ready to read it.
type_input() {
    local log=$1 limit=$2
    [[ -n ${INPUT:-} ]] || return 0
    until grep --quiet --text --extended-regexp "$PROMPT" "$log" 2>/dev/null; do
        ((limit-- > 0)) && sleep 0.1 || return
    done
    cat "$INPUT"
}

# The machine has the terminal to itself; how it ends is for who sits there to see.
boot_at_terminal() {
    rm -f "$1"
    exec "${COMMAND[@]}"
}

boot() {
    local log=$1 quiet=$2 viewer=''
    rm -f "$log"
    if ((quiet)); then
        exec 8>/dev/null
    else
        exec 8> >(show_console)
        viewer=$!
    fi
    "${COMMAND[@]}" < <(type_input "$log" $((10 * ${TIMEOUT:-120}))) >&8 2>"${log%/*}/qemu.log" &
    MACHINE_PID=$!
    exec 8>&-
    trap stop_machine EXIT
    trap 'stop_machine; exit 130' INT TERM
    wait_for_machine "$log" "${TIMEOUT:-120}" "${EXPECT:-$VERDICT}"
    [[ -z $viewer ]] || wait "$viewer" || true
    trap - INT TERM
    grep --invert-match 'terminating on signal' "${log%/*}/qemu.log" >&2 || true
}

# The last stage that shows in the log, with its hint.
last_stage() {
    local stage pattern name hint found='nothing at all|QEMU did not start, or BL1 is not what it should be.'
    for stage in "${STAGES[@]}"; do
        IFS='|' read -r pattern name hint <<<"$stage"
        if grep --quiet --text "$pattern" "$1" 2>/dev/null; then found="$name|$hint"; fi
    done
    echo "$found"
}

# The folder of the partitions' programs as ELF files.
programs() {
    local folder=$TARGET_DIR/$RUST_TARGET/${PROFILE:-release}
    echo "${folder/%dev/debug}"
}

# Commands for a debugger, in the file "gdb": who is where, and to connect.
write_gdb_commands() {
    local packed=$1 elf release=$TARGET_DIR/$RUST_TARGET/release name start program
    elf=$(programs)
    {
        echo "file $release/tantalum-qemu"
        echo "add-symbol-file $release/tantalum-normal-world -o 0x60000000"
        while read -r name start _ program; do
            echo "# $name"
            echo "add-symbol-file $elf/$program -o $start"
        done <"$packed/images"
        echo "target remote localhost:1234"
    } >"$packed/gdb"
    note "Waiting for a debugger: gdb-multiarch -x $packed/gdb"
}

# Where in the source partitions were stopped.
show_places() {
    local places
    places=$("$SCRIPTS/where.py" "$1" "$(programs)" 2>&1) || return 0
    [[ -z $places ]] || printf '\n%s\n%s\n' "${bold}==>${plain} Where partitions were stopped:" "$places" >&2
}

report() {
    local log=$1 name hint line passed failed
    echo >&2
    line=$(grep --text --extended-regexp "${EXPECT:-$VERDICT}" "$log" 2>/dev/null | tail -n 1 | tr -d '\r' || true)
    IFS='|' read -r name hint < <(last_stage "$log")
    case $ENDING in
    late) die "Stopped after ${TIMEOUT:-120} s. The last that was heard from was $name." "$hint" "The console: $log" ;;
    hung) die "The normal world gave its verdict but did not power off within $GRACE s." "The console: $log" ;;
    esac
    [[ -n $line ]] ||
        die "The machine stopped without a verdict. The last that was heard from was $name." "$hint" "The console: $log"
    if [[ -z ${EXPECT:-} ]]; then
        read -r _ passed _ failed _ <<<"$line"
        ((failed == 0 && passed > 0)) || die "$failed of $((passed + failed)) failed." "The console: $log"
    fi
    say "${line#tantalum: }. The machine powered off by itself."
}

main() {
    local quiet=0 packed log
    [[ ${1:-} == --quiet ]] && { quiet=1; shift; }
    (($# >= 1)) || die "Which scenario? For example: run.sh demo"
    packed=$("$SCRIPTS/pack.sh" "$1") || exit 2
    shift
    log=$packed/console.log
    qemu_command "$packed/flash.bin" "$log" "$@"
    if [[ ${TERMINAL:-0} == 1 ]]; then
        say "Booting $(basename "$packed") on $(cores) core(s): ${COMMAND[0]##*/}. Ctrl-A X stops it."
        boot_at_terminal "$log"
    fi
    say "Booting $(basename "$packed") on $(cores) core(s): ${COMMAND[0]##*/}, at most ${TIMEOUT:-120} s"
    [[ ${GDB:-0} == 1 ]] && write_gdb_commands "$packed"
    boot "$log" "$quiet"
    ((quiet)) || show_places "$packed"
    report "$log"
}

main "$@"
