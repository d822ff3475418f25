#!/usr/bin/env python3
"""Watches a client application's calls of a trusted application cross every boundary of the machine.

Usage: trace.py [ROUNDS]    counts instructions in ROUNDS (9) calls

Boots Linux and OP-TEE on one core, lets the program gp-trace run twice, and reads QEMU's log of the processor meanwhile: once
with the registers at every crossing, once with every instruction. Writes into target/qemu/trace
    crossings.txt    every crossing of every step of the client's life, with registers
    invoke.mmd       those of the first TEEC_InvokeCommand, as a sequence diagram (Mermaid)
    counts.txt       the instructions of each layer in TEEC_InvokeCommand
Interrupts, and what a layer does within itself, are left out; crossings.txt says how often they came.
"""

import os
import re
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "qemu"
FOLDER = OUT / "trace"
CONSOLE = OUT / "linux" / "console.log"

# gp-trace.c: the number of its system call that does nothing, and what it passes.
MARK = 0x7A6E
STEPS = [
    "",
    "TEEC_InitializeContext",
    "TEEC_OpenSession",
    "TEEC_RegisterSharedMemory",
    "TEEC_InvokeCommand",
    "TEEC_ReleaseSharedMemory",
    "TEEC_CloseSession",
    "TEEC_FinalizeContext",
    "over",
]
OVER = len(STEPS) - 1

SECURE_DRAM = range(0x0E10_0000, 0x0F00_0000)

# Who is at which exception level of which world. Linux has both EL2 and EL1 to itself, and is at EL2.
LAYERS = {
    "NS EL0": "client",
    "NS EL2": "Linux",
    "EL3": "SPMD",
    "S EL2": "Tantalum",
    "S EL1": "OP-TEE",
    "S EL0": "TA",
}

# ---- Names ----

CALLS = {
    0x60: "FFA_ERROR",
    0x61: "FFA_SUCCESS",
    0x62: "FFA_INTERRUPT",
    0x63: "FFA_VERSION",
    0x64: "FFA_FEATURES",
    0x65: "FFA_RX_RELEASE",
    0x66: "FFA_RXTX_MAP",
    0x67: "FFA_RXTX_UNMAP",
    0x69: "FFA_ID_GET",
    0x6B: "FFA_MSG_WAIT",
    0x6C: "FFA_YIELD",
    0x6D: "FFA_RUN",
    0x6F: "FFA_MSG_SEND_DIRECT_REQ",
    0x70: "FFA_MSG_SEND_DIRECT_RESP",
    0x71: "FFA_MEM_DONATE",
    0x72: "FFA_MEM_LEND",
    0x73: "FFA_MEM_SHARE",
    0x74: "FFA_MEM_RETRIEVE_REQ",
    0x75: "FFA_MEM_RETRIEVE_RESP",
    0x76: "FFA_MEM_RELINQUISH",
    0x77: "FFA_MEM_RECLAIM",
    0x7A: "FFA_MEM_FRAG_RX",
    0x7B: "FFA_MEM_FRAG_TX",
    0x7C: "FFA_NORMAL_WORLD_RESUME",
    0x8A: "FFA_CONSOLE_LOG",
    0x8B: "FFA_PARTITION_INFO_GET_REGS",
    0x8D: "FFA_MSG_SEND_DIRECT_REQ2",
    0x8E: "FFA_MSG_SEND_DIRECT_RESP2",
}
# OP-TEE's services, which w3 of a message names (its optee_ffa.h).
SERVICES = {
    0: "GET_API_VERSION",
    1: "GET_OS_VERSION",
    2: "EXCHANGE_CAPABILITIES",
    3: "UNREGISTER_SHM",
    5: "ENABLE_ASYNC_NOTIF",
    0x8000_0000: "YIELDING_CALL_WITH_ARG",
    0x8000_0001: "YIELDING_CALL_RESUME",
}
IOCTLS = {
    0: "TEE_IOC_VERSION",
    1: "TEE_IOC_SHM_ALLOC",
    2: "TEE_IOC_OPEN_SESSION",
    3: "TEE_IOC_INVOKE",
    4: "TEE_IOC_CANCEL",
    5: "TEE_IOC_CLOSE_SESSION",
    6: "TEE_IOC_SUPPL_RECV",
    7: "TEE_IOC_SUPPL_SEND",
    9: "TEE_IOC_SHM_REGISTER",
}
LINUX_CALLS = {29: "ioctl", 56: "openat", 57: "close", 215: "munmap", 222: "mmap"}
TA_CALLS = {0: "return", 1: "log", 2: "panic", 3: "get_property", 28: "invoke"}


def call_name(number):
    """An FF-A function, by its number; the upper bits say whether it has 32-bit or 64-bit registers."""
    name = CALLS.get(number & 0xFFFF) if number >> 24 & 0xBF == 0x84 else None
    return name and name + ("_64" if number >> 30 & 1 and name.startswith(("FFA_MEM_S", "FFA_MSG_SEND_DIRECT_RE")) else "")


def message(registers):
    """What an FF-A call or answer says, from x0 to x7."""
    name = call_name(registers[0] & 0xFFFF_FFFF)
    if not name:
        return f"{registers[0] & 0xFFFF_FFFF:#010x}"
    if "DIRECT_REQ" in name and registers[1] & 0xFFFF == 0x8003:
        service = registers[3] & 0xFFFF_FFFF
        return f"{name} {registers[1] & 0xFFFF_FFFF:#x}: {SERVICES.get(service, hex(service))}"
    if "DIRECT" in name or name in ("FFA_RUN", "FFA_INTERRUPT"):
        return f"{name} {registers[1] & 0xFFFF_FFFF:#x}"
    if "RECLAIM" in name:
        return f"{name} {registers[2] & 0xFFFF_FFFF:#x}:{registers[1] & 0xFFFF_FFFF:#x}"
    return name


# ---- Reading QEMU's log ----

# The way, as QEMU calls it; the syndrome of an exception; the layers; where it goes on, or came from; x0-x30 after it.
Crossing = namedtuple("Crossing", "how syndrome source target address registers")

EXCEPTION = re.compile(r"Taking exception \d+ \[(.*?)\]")
LEVELS = re.compile(r"\.\.\.from EL(\d) to EL(\d)")
SYNDROME = re.compile(r"\.\.\.with ESR 0x[0-9a-f]+/0x([0-9a-f]+)")
ADDRESS = re.compile(r"\.\.\.with ELR 0x([0-9a-f]+)")
RETURN = re.compile(r"Exception return from AArch64 EL(\d) to AArch64 EL(\d) PC 0x([0-9a-f]+)")
REGISTER = re.compile(r"X(\d\d)=([0-9a-f]{16})")


class Reader:
    """Follows the log line by line: at which level of which world the processor is, and how it got there."""

    def __init__(self):
        self.secure = False
        self.how = None
        self.before = self.layer = None
        self.syndrome = self.address = 0

    def enter(self, source, target):
        self.before = self.name(source)
        self.layer = self.name(target)

    def name(self, level):
        return "EL3" if level == 3 else f"{'S' if self.secure else 'NS'} EL{level}"

    def is_at_crossing(self, line):
        """Whether the line completes the description of a crossing, which is in the fields then."""
        if match := EXCEPTION.match(line):
            self.how = match[1]
        elif match := LEVELS.match(line):
            self.enter(int(match[1]), int(match[2]))
        elif match := SYNDROME.match(line):
            self.syndrome = int(match[1], 16)
        elif match := ADDRESS.match(line):
            self.address = int(match[1], 16)
            return True
        elif match := RETURN.match(line):
            self.how, self.syndrome, self.address = "ERET", 0, int(match[3], 16)
            source, target = int(match[1]), int(match[2])
            self.before = self.name(source)
            if source == 3:
                self.secure = self.address in SECURE_DRAM
            self.layer = self.name(target)
            return True
        return False


def crossings(lines):
    """All crossings, with x0-x30 on the other side, which are printed as the processor goes on there.

    An interrupt may come first: then they are the ones with which the return from it goes on at that address."""
    reader, waiting, interrupted, registers = Reader(), None, [], {}
    for line in lines:
        if reader.is_at_crossing(line):
            found = Crossing(reader.how, reader.syndrome, reader.before, reader.layer, reader.address, None)
            if waiting and reader.how == "IRQ":
                interrupted.append(waiting)
            elif interrupted and reader.how == "ERET" and interrupted[-1].address == reader.address:
                found = interrupted.pop()
            waiting, registers = found, {}
        elif waiting and "=" in line:
            registers.update((int(number), int(value, 16)) for number, value in REGISTER.findall(line))
            if 30 in registers:
                yield waiting._replace(registers=registers)
                waiting = None


# ---- The machine ----


def wait_for(text, process, seconds):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if CONSOLE.exists() and text in CONSOLE.read_bytes():
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    sys.exit(f"error: {text.decode()} never came; see {CONSOLE}")


class Machine:
    """Linux on one core, with QEMU's monitor at hand and its log in a pipe."""

    def __init__(self, rounds):
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.pipe, monitor = FOLDER / "log", FOLDER / "monitor"
        for path in self.pipe, monitor, CONSOLE:
            path.unlink(missing_ok=True)
        os.mkfifo(self.pipe)
        # For writing too: then QEMU need not wait for a reader, nor the reader for QEMU.
        self.log = os.open(self.pipe, os.O_RDWR)
        self.done = threading.Event()
        environment = dict(
            os.environ,
            SMP="1",
            TIMEOUT="900",
            EXPECT="^trace: done",
            # An instruction takes a nanosecond of the machine's own time, so that writing the log is not time in which its
            # timer rings.
            QEMU_ARGS=f"-icount shift=0 -D {self.pipe} -monitor unix:{monitor},server=on,wait=off",
            # The program's addresses are to be the same each time.
            LINUX_ARGS=f"norandmaps tantalum.rounds={rounds}",
        )
        command = [ROOT / "scripts" / "linux.sh", "run", "/usr/share/tantalum/trace"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        self.monitor_path = monitor

    def tell(self, *commands):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.monitor_path))
            monitor.settimeout(60)
            for command in commands:
                self.wait_for_prompt(monitor)
                monitor.sendall(command.encode() + b"\n")
            self.wait_for_prompt(monitor)

    @staticmethod
    def wait_for_prompt(monitor):
        got = b""
        while not got.endswith(b"(qemu) "):
            got += monitor.recv(4096)

    def read_log(self):
        """The log's lines. Ends when it has been turned off and nothing more comes."""
        rest = b""
        while True:
            if not select.select([self.log], [], [], 1)[0]:
                if self.done.is_set():
                    return
                continue
            *lines, rest = (rest + os.read(self.log, 1 << 20)).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")

    def watch(self, announcement, consume, *commands):
        """Once the guest announces it, turns the log on, and off again when consume has read enough of it."""
        wait_for(announcement, self.process, 600)
        self.done.clear()
        result = []

        def read():
            lines = self.read_log()
            result.append(consume(lines))
            for _ in lines:
                pass

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        self.tell(*commands)
        while not result and thread.is_alive() and self.process.poll() is None:
            time.sleep(0.1)
        if not result:
            sys.exit(f"error: the machine stopped too early; see {CONSOLE}")
        self.tell("log none", "one-insn-per-tb off")
        self.done.set()
        thread.join()
        return result[0]

    def finish(self):
        if self.process.wait():
            sys.exit(f"error: the machine did not end well; see {CONSOLE}")
        self.pipe.unlink()


# ---- What was seen ----


def is_mark(crossing):
    return crossing.how == "SVC" and crossing.source == "NS EL0" and crossing.registers.get(8) == MARK


def steps(found):
    """The crossings of each step, as pairs; ends when the program is over."""
    step, inside = 0, []
    result = []
    for crossing in found:
        if not is_mark(crossing):
            if step:
                inside.append(crossing)
            continue
        mark = crossing.registers[0]
        if mark == OVER:
            break
        if step and not mark:
            result.append((STEPS[step], inside))
        step, inside = mark, []
    return result


def trap(syndrome):
    """What trapped, by the exception class and what it says of itself; nothing for what is not known here."""
    kind = syndrome >> 26
    if kind == 0x07:
        return "trap: first use of SIMD registers"
    if kind == 0x18:
        fields = [syndrome >> shift & mask for shift, mask in ((20, 3), (14, 7), (10, 15), (1, 15), (17, 7))]
        return "trap: {} S{}_{}_C{}_C{}_{}".format("MRS" if syndrome & 1 else "MSR", *fields)
    return None


def user_call(crossing):
    """A call of the client's, or the return from one."""
    number, request = crossing.registers[8], crossing.registers[1] & 0xFFFF_FFFF
    if number not in LINUX_CALLS:
        return None
    if crossing.how == "ERET":
        return f"ERET {crossing.registers[0]:#x}" if number == 29 else None
    if number == 29:
        is_tee = request >> 8 & 0xFF == 0xA4
        return f"SVC ioctl {IOCTLS.get(request & 0xFF, hex(request))}" if is_tee else None
    return f"SVC {LINUX_CALLS[number]}"


def label(crossing):
    """What crosses, in words; nothing for what is none of the call's business."""
    registers = [crossing.registers[number] for number in range(8)]
    how, ends = crossing.how, {crossing.source, crossing.target}
    is_message = call_name(registers[0] & 0xFFFF_FFFF)
    if len(ends) == 1 or how == "IRQ":
        return None
    if ends == {"NS EL0", "NS EL2"}:
        return user_call(crossing) if how in ("SVC", "ERET") else None
    if ends == {"S EL0", "S EL1"} and how == "SVC":
        return f"SVC {TA_CALLS.get(crossing.registers[8], crossing.registers[8])}"
    if how in ("Secure Monitor Call", "Hypervisor Trap") and is_message:
        return f"SMC {message(registers)}"
    if how == "Hypervisor Call":
        return f"HVC {message(registers)}"
    if how == "ERET":
        return f"ERET {message(registers)}" if is_message and ends != {"S EL0", "S EL1"} else "ERET"
    return trap(crossing.syndrome)


def write_crossings(found):
    with open(FOLDER / "crossings.txt", "w") as file:
        for name, inside in found:
            other = Counter()
            print(f"\n{name}", file=file)
            for crossing in inside:
                if text := label(crossing):
                    words = " ".join(f"{crossing.registers[number]:x}" for number in range(8))
                    route = f"{LAYERS[crossing.source]} -> {LAYERS[crossing.target]}"
                    print(f"  {route:22} {text:60} {words}", file=file)
                else:
                    other[f"{crossing.how} {crossing.source} -> {crossing.target}"] += 1
            for what, count in sorted(other.items()):
                print(f"  {count} times {what}", file=file)


def diagram(inside):
    """The crossings as a sequence diagram. The client's and the application's own returns are added where they belong."""
    lines = ["sequenceDiagram"]
    lines += [f"    participant {name.replace('-', '')} as {name}<br/>{level}" for level, name in LAYERS.items()]
    for crossing in inside:
        if text := label(crossing):
            source, target = (LAYERS[end].replace("-", "") for end in (crossing.source, crossing.target))
            arrow = "-->>" if text.startswith("ERET") else "->>"
            lines.append(f"    {source}{arrow}{target}: {text}")
    return "\n".join(lines) + "\n"


# ---- Counting ----


def counter(mark_address, wanted):
    """A function that counts each layer's instructions between two marks, so often as is wanted. It needs a log with one
    instruction a block."""

    def read(lines):
        reader, marks, counts = Reader(), 0, []
        for line in lines:
            if line.startswith("Trace "):
                if marks % 2:
                    counts[-1][reader.layer] += 1
            elif reader.is_at_crossing(line) and reader.how == "SVC" and reader.address == mark_address:
                marks += 1
                if marks % 2:
                    counts.append(Counter())
                elif len(counts) == wanted:
                    break
        return counts

    return read


def write_counts(counts):
    """Of the first call, in which OP-TEE retrieves the buffer, and of those after it the median and the smallest."""
    first, *others = counts
    with open(FOLDER / "counts.txt", "w") as file:
        print(f"Instructions in one TEEC_InvokeCommand: the first, and of {len(others)} more the median and the fewest", file=file)
        for level, name in LAYERS.items():
            numbers = [count[level] for count in others]
            print(f"  {name:10}{level:8}{first[level]:9}{statistics.median_low(numbers):9}{min(numbers):9}", file=file)
        totals = [count.total() for count in others]
        print(f"  {'all':18}{first.total():9}{statistics.median_low(totals):9}{min(totals):9}", file=file)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    machine = Machine(rounds)
    marks = []

    def read_steps(lines):
        return steps(note_marks(crossings(lines), marks))

    found = machine.watch(b"trace: crossings", read_steps, "log int,exec,cpu,nochain")
    write_crossings(found)
    invocations = [inside for name, inside in found if name == "TEEC_InvokeCommand"]
    (FOLDER / "invoke.mmd").write_text(diagram(invocations[0]))
    steps_to_count = len(STEPS) - 3 + rounds
    count = counter(marks[0], steps_to_count)
    counts = machine.watch(b"trace: instructions", count, "one-insn-per-tb on", "log int,exec,nochain")
    invoke = STEPS.index("TEEC_InvokeCommand") - 1
    write_counts(counts[invoke : invoke + rounds])
    machine.finish()
    for name in "invoke.mmd", "counts.txt":
        print((FOLDER / name).read_text())


def note_marks(found, marks):
    for crossing in found:
        if is_mark(crossing):
            marks.append(crossing.address)
        yield crossing


if __name__ == "__main__":
    main()
