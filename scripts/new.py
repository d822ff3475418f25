#!/usr/bin/env python3
"""Makes a partition from scripts/template: a crate in partitions/, a manifest, and a scenario that boots it.

Called by `make new NAME=adder`, with these variables in the environment:
NAME        what the partition is called
IN          add it to this scenario of manifests/qemu instead of making one of its own
CONTEXTS=1  execution contexts: 1, which moves from core to core, or 4, one for each core
EL=1        exception level: 1, or 0, where the SPM does what an operating system would
"""

import os
import re
import struct
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).resolve().parent / "template"

# What manifests/qemu/spmc.dtsi gives each partition, and where partitions may lie.
SIZE = 0x10_0000
SECURE_DRAM_END = 0x0F00_0000
# As many packages as BL2 loads.
MOST = 8
CORES = 4

# Names that mean something else: files of a scenario, programs and crates that are no partitions.
RESERVED = {"spmc", "tb_fw_config", "qemu", "fvp", "core", "stage2", "aarch64", "selftest", "partition", "partition-build"}

PARTITION = re.compile(r'^\s*PARTITION\((\d+), "([^"]*)", (0x[0-9a-fA-F]+), \d+\).*\n', re.MULTILINE)


class Problem(Exception):
    """Something that the user can put right; its text says what."""


def check_name(root, name):
    if not name:
        raise Problem("what shall it be called? For example: make new NAME=adder")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 24:
        raise Problem(f'"{name}" can\'t be its name: small letters, digits and single dashes, a letter first, 24 at most')
    if name in RESERVED:
        raise Problem(f'"{name}" can\'t be its name: it means something else here')
    for taken in root / "partitions" / name, root / "manifests/qemu" / name:
        if taken.exists():
            raise Problem(f"the name {name} is taken: there is {taken.relative_to(root)}")


def next_place(scenario, source):
    """Number and load address of the next partition in a scenario's SPMC manifest, and where its line belongs."""
    lines = list(PARTITION.finditer(source))
    if not lines:
        raise Problem(f"{scenario}/spmc.dts has no PARTITION(...) line to add another one to")
    number = max(int(line[1]) for line in lines) + 1
    address = max(int(line[3], 16) for line in lines) + SIZE
    if len(lines) >= MOST:
        raise Problem(f"{scenario} has {len(lines)} partitions, more than {MOST} BL2 does not load")
    if address + SIZE > SECURE_DRAM_END:
        raise Problem(f"{scenario} has no memory left: a partition more would end at {address + SIZE:#x}")
    return number, address, lines[-1].end()


def fill(template, facts):
    text = (TEMPLATE / f"{template}.in").read_text()
    return re.sub(r"@(\w+)@", lambda match: facts[match[1]], text)


def secondaries(contexts):
    if contexts == 1:
        return ""
    return (
        "        // The contexts of the other cores start in main too.\n"
        '        boot.register_secondaries().expect("the manifest gives this partition several contexts");\n'
    )


def plan(root, name, into, contexts, identity, level):
    """The files to write, path to text. Nothing is written before all of them are known."""
    check_name(root, name)
    if contexts not in ("1", str(CORES)):
        raise Problem(f"CONTEXTS={contexts}: a partition has 1 execution context, or {CORES}, one for each core")
    if level not in ("0", "1"):
        raise Problem(f"EL={level}: a partition is at S-EL1 or at S-EL0")
    if level == "0" and contexts != "1":
        raise Problem(f"CONTEXTS={contexts}: a partition at S-EL0 has 1 execution context")
    scenario = root / "manifests/qemu" / (into or name)
    where = scenario.relative_to(root)
    if into and not (scenario / "spmc.dts").is_file():
        raise Problem(f"IN={into}: there is no scenario {where}")
    if (scenario / f"{name}.dts").exists():
        raise Problem(f"the name {name} is taken: there is {where}/{name}.dts")
    facts = {"NAME": name}
    manifest = (scenario / "spmc.dts").read_text() if into else fill("spmc.dts", facts)
    number, address, end = next_place(where, manifest)
    line = f'\t\tPARTITION({number}, "{name}", {address:#010x}, {contexts})\n'
    facts.update(
        NUMBER=str(number),
        ADDRESS=f"{address:#010x}",
        CONTEXTS=contexts,
        UUID=str(identity),
        UUID_WORDS=" ".join(f"{word:#010x}" for word in struct.unpack("<4I", identity.bytes)),
        SECONDARIES=secondaries(int(contexts)),
        EL=level,
        LEVEL=", level = el0" if level == "0" else "",
        EXCEPTION_LEVEL={"0": "1", "1": "2"}[level],
    )
    crate, workspace = root / "partitions" / name, root / "Cargo.toml"
    members = re.sub(r"(\nmembers = \[\n(?: .*\n)*)", rf'\1    "partitions/{name}",\n', workspace.read_text(), count=1)
    files = {
        crate / "Cargo.toml": fill("Cargo.toml", facts),
        crate / "build.rs": fill("build.rs", facts),
        crate / "src/main.rs": fill("main.rs", facts),
        scenario / f"{name}.dts": fill("partition.dts", facts),
        scenario / "spmc.dts": manifest[:end] + line + manifest[end:],
        workspace: members,
    }
    if not into:
        files[scenario / "echo.dts"] = fill("echo.dts", facts)
    return files, facts


def write(root, files):
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f"    {'changed' if path.exists() else 'new':8} {path.relative_to(root)}")
        path.write_text(text)


def make(root, name, into=None, contexts="1", identity=None, level="1"):
    files, facts = plan(root, name, into, contexts, identity or uuid.uuid4(), level)
    scenario = into or name
    print(f"==> The partition {name}: {facts['UUID']}, S-EL{level}, at {facts['ADDRESS']}, {contexts} context(s)")
    write(root, files)
    print(
        f"\nWhat it does is in partitions/{name}/src/main.rs. To see it do it:\n\n"
        f"    make run SCENARIO={scenario}      # boots it; the normal world finds it and sends it a message\n"
        f"    make shell SCENARIO={scenario}    # the same, with you at the keyboard: send {name} 20 22\n\n"
        "The next partition can join it: "
        f"make new NAME=another IN={scenario}. The guide: spmc/docs/partitions.md."
    )


def main():
    value = os.environ.get
    try:
        make(ROOT, value("NAME", ""), value("IN") or None, value("CONTEXTS") or "1", level=value("EL") or "1")
    except Problem as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
