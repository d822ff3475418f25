#!/usr/bin/env python3
"""Packs a scenario into the flash image that QEMU boots, or the FIP that an FVP boots. Called by pack.sh, which describes
what a scenario is, and by fvp.sh.

The formats: a partition package is a header of 24 bytes, the partition's manifest (a DTB) and its image; TB_FW_CONFIG
lists for BL2 the packages' UUIDs and where to load them; a firmware image package (FIP) is a table of contents of
(UUID, offset, size, flags) and the images; the flash holds BL1 and the FIP.
"""

import argparse
import json
import os
import re
import struct
import subprocess
import sys
import uuid
from collections import namedtuple
from pathlib import Path

PAGE = 0x1000
MIB = 1 << 20

# What TF-A's platforms have room for. SPMC: the program's name. The secure DRAM starts with the SPMC.
Board = namedtuple("Board", "spmc secure_dram max_package max_manifest max_config")
QEMU = Board("tantalum-qemu", range(0x0E10_0000, 0x0F00_0000), 4 * MIB, PAGE, PAGE)
FVP = Board("tantalum-fvp", range(0x0600_0000, 0x07F0_0000), 0xB_0000, 0xB00, 0x1800)
MAX_PACKAGES = 8
FLASH_SIZE = 64 * MIB
FIP_OFFSET = 0x4_0000

FIP_UUIDS = {
    "tb-fw": uuid.UUID("5ff9ec0b-4d22-3e4d-a544-c39d81c73f0a"),
    "soc-fw": uuid.UUID("47d4086d-4cfe-9846-9b95-2950cbbd5a00"),
    "tos-fw": uuid.UUID("05d0e189-53dc-1347-8d2b-500a4b7a3e38"),
    "nt-fw": uuid.UUID("d6d0eea7-fcea-d54b-9782-9934f234b6e4"),
    "tb-fw-config": uuid.UUID("6c0458ff-af6b-7d4f-82ed-aa27bc69bfd2"),
    "tos-fw-config": uuid.UUID("26257c1a-dbc6-7f47-8d96-c4c4b0248021"),
    "fw-config": uuid.UUID("5807e16a-8459-47be-8ed5-648e8dddab0e"),
    "hw-config": uuid.UUID("08b8f1d9-c9cf-9349-a962-6fbc6b7265cc"),
    "soc-fw-config": uuid.UUID("9979814b-0376-fb46-8c8e-8d267f7859e0"),
    "nt-fw-config": uuid.UUID("28da9815-93e8-7e44-ac66-1aaf801550f9"),
}

# What else TF-A's build for an FVP makes and its FIP has to have.
FVP_CONFIGS = ("fw-config", "hw-config", "soc-fw-config", "nt-fw-config")

# The program is that of the tree which the image was made of, if it was.
Package = namedtuple("Package", "name uuid load_address data program", defaults=[""])


class Problem(Exception):
    """Something that the user can put right; its text says what."""


def align(value, to):
    return (value + to - 1) // to * to


def read(path, what):
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Problem(f"{what}: {error.strerror}: {path}") from error
    if not data:
        raise Problem(f"{what} is empty: {path}")
    return data


# ---- Device trees ----

DTB_MAGIC = bytes.fromhex("d00dfeed")


def run_tool(command, what):
    result = subprocess.run([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    if result.returncode:
        raise Problem(f"{command[0]} does not understand {what}:\n{result.stderr.rstrip()}")


def compile_tree(source, dtb):
    """Makes a DTB of a device tree source, by the C preprocessor and dtc. What is a DTB already is copied."""
    data = read(source, "the manifest")
    if data.startswith(DTB_MAGIC):
        dtb.write_bytes(data)
    else:
        plain = dtb.with_suffix(".i")
        preprocess = ["aarch64-linux-gnu-gcc", "-E", "-nostdinc", "-undef", "-x", "assembler-with-cpp"]
        run_tool([*preprocess, "-I", Path(source).parent, "-o", plain, source], source)
        run_tool(["dtc", "-q", "-I", "dts", "-O", "dtb", "-o", dtb, plain], source)
        plain.unlink()
    return dtb.read_bytes()


def root_properties(dtb, what):
    """The properties of a DTB's root node, name to bytes; without a "uuid" there, that of its first service (binding 1.1)."""
    if not dtb.startswith(DTB_MAGIC) or len(dtb) < 40:
        raise Problem(f"{what} is no DTB")
    structure, strings = struct.unpack_from(">II", dtb, 8)
    properties, depth, at = {}, 0, structure
    while True:
        (token,) = struct.unpack_from(">I", dtb, at)
        at += 4
        if token == 1:  # a node begins
            depth += 1
            at = align(dtb.index(b"\0", at) + 1, 4)
        elif token == 2:  # a node ends
            depth -= 1
        elif token == 3:  # a property
            length, name = struct.unpack_from(">II", dtb, at)
            at += 8
            key = dtb[strings + name : dtb.index(b"\0", strings + name)].decode()
            if depth == 1:
                properties[key] = dtb[at : at + length]
            elif key == "uuid":
                properties.setdefault(key, dtb[at : at + length])
            at = align(at + length, 4)
        elif token == 9:  # the tree ends
            return properties


def manifest_uuid(value, what):
    """The UUID of a manifest: the canonical string, or its four words as the SMC calling convention has them in
    registers, little end first. Of several the first is the package's."""
    try:
        if len(value) % 16:
            return uuid.UUID(value.split(b"\0")[0].decode())
        elif value:
            return uuid.UUID(bytes=struct.pack("<4I", *struct.unpack_from(">4I", value)))
    except ValueError:
        pass
    raise Problem(f'{what}: its "uuid" is neither four words nor a string like 01234567-89ab-cdef-0123-456789abcdef')


def identity(dtb, what, given_uuid=None, given_address=None):
    """UUID and load address of a partition: what was given, else what its manifest says."""
    properties = root_properties(dtb, what)
    for name, given in ("uuid", given_uuid), ("load-address", given_address):
        if given is None and name not in properties:
            raise Problem(f'{what} has no property "{name}" in its root node')
    partition = uuid.UUID(given_uuid) if given_uuid else manifest_uuid(properties["uuid"], what)
    address = int.from_bytes(properties["load-address"], "big") if given_address is None else int(given_address, 0)
    if address % PAGE:
        raise Problem(f"{what}: its load-address {address:#x} is not on a page")
    return partition, address


# ---- Packages ----


def make_transfer_list(dtb, image, dtb_offset, image_offset):
    """A transfer list of the Firmware Handoff specification: manifest and image at pages of their own, and between them
    empty entries, the first of which has room for boot information."""
    data = bytearray(24)
    for tag, content, offset in (0x106, dtb, dtb_offset), (0x103, image, image_offset):
        gap = offset - 16 - align(len(data), 8)
        if gap < 0:
            raise Problem(f"a manifest of {len(dtb)} bytes does not fit between {dtb_offset:#x} and {image_offset:#x}")
        data += bytes(-len(data) % 8)
        data += struct.pack("<II", 8 << 24, gap) + bytes(gap)
        data += struct.pack("<II", 8 << 24 | tag, len(content)) + content
    struct.pack_into("<IBBBBIIII", data, 0, 0x4A0FB10B, 0, 1, 24, 3, len(data), len(data), 1, 0)
    data[4] = -sum(data) % 256
    return bytes(data)


def make_package(dtb, image, version=2, dtb_offset=None, image_offset=None):
    """Version 2 has manifest and image at pages of their own, version 1 the manifest right behind the header. "list" is a
    transfer list."""
    if version not in (1, 2, "list"):
        raise Problem(f"there is no package version {version}; 1, 2 and list are known")
    if dtb_offset is None:
        dtb_offset = 24 if version == 1 else PAGE
    if image_offset is None:
        image_offset = max(align(dtb_offset + len(dtb), PAGE), PAGE if version == 1 else 4 * PAGE)
    if dtb_offset < 24 or image_offset < dtb_offset + len(dtb):
        raise Problem(f"a manifest of {len(dtb)} bytes does not fit between {dtb_offset:#x} and {image_offset:#x}")
    if version == "list":
        return make_transfer_list(dtb, image, dtb_offset, image_offset)
    data = bytearray(image_offset + len(image))
    struct.pack_into("<4s5I", data, 0, b"SPKG", version, dtb_offset, len(dtb), image_offset, len(image))
    data[dtb_offset : dtb_offset + len(dtb)] = dtb
    data[image_offset:] = image
    return bytes(data)


def parts_of(package, what):
    """The manifest and the image inside a package."""
    if package.startswith(struct.pack("<I", 0x4A0FB10B)):
        parts, at = {}, package[6]
        while at + 8 <= len(package):
            head, size = struct.unpack_from("<II", package, at)
            parts[head & 0xFFFFFF] = package[at + (head >> 24) : at + (head >> 24) + size]
            at = align(at + max(head >> 24, 8) + size, 1 << package[7])
        return parts.get(0x106, b""), parts.get(0x103, b"")
    if not package.startswith(b"SPKG") or len(package) < 24:
        raise Problem(f"{what} is no partition package (it does not begin with SPKG)")
    manifest, manifest_size, image, image_size = struct.unpack_from("<4I", package, 8)
    return package[manifest : manifest + manifest_size], package[image : image + image_size]


def manifest_in(package, what):
    """The manifest inside a ready-made package."""
    return parts_of(package, what)[0]


def remark(source, name):
    """What follows "// NAME:" on a line of the file, or None."""
    match = re.search(rf"^\s*//\s*{name}:\s*(\S+)\s*$", Path(source).read_text(errors="replace"), re.MULTILINE)
    return match and match.group(1)


def package_version(source):
    version = remark(source, "package") or "2"
    return int(version) if version.isdecimal() else version


def scenario_image(source, programs):
    """Where the image of a scenario's partition is."""
    image = os.path.expandvars(remark(source, "image") or source.stem)
    return source.parent / image if "/" in image else programs / f"tantalum-{image}.bin"


def packages_of_scenario(folder, programs, out):
    for source in sorted(folder.glob("*.dts")):
        if source.stem in ("spmc", "tb_fw_config"):
            continue
        name, what = source.stem, f"the manifest {source.name}"
        dtb = compile_tree(source, out / f"{name}.dtb")
        image = read(scenario_image(source, programs), f"the image of {name}")
        package = make_package(dtb, image, package_version(source))
        program = scenario_image(source, programs)
        yield Package(name, *identity(dtb, what), package, program.stem if program.parent == programs else "")


def packages_of_layout(path, out):
    """A layout file as TF-A's build takes it: names with "image", "pm" and sometimes more."""

    def file_and_offset(value):
        file, offset = (value["file"], value.get("offset")) if isinstance(value, dict) else (value, None)
        return Path(path).parent / file, offset and int(offset, 0)

    try:
        layout = json.loads(read(path, "the layout file"))
    except ValueError as error:
        raise Problem(f"{path} is no JSON: {error}") from error
    for name, entry in layout.items():
        versions = {"sp_pkg": 2, "tl_pkg": "list"}
        version = versions.get(entry.get("package", "sp_pkg"))
        if version is None:
            raise Problem(f'{name} in {path}: packages of type "{entry["package"]}" are not supported')
        source, dtb_offset = file_and_offset(entry["pm"])
        image, image_offset = file_and_offset(entry["image"])
        dtb = compile_tree(source, out / f"{name}.dtb")
        data = make_package(dtb, read(image, f"the image of {name}"), version, dtb_offset, image_offset)
        given = entry.get("uuid"), entry.get("physical-load-address")
        yield Package(name, *identity(dtb, f"the manifest {source.name}", *given), data)


def ready_made_packages(paths):
    for path in paths:
        data = read(path, "the package")
        yield Package(Path(path).stem, *identity(manifest_in(data, path), f"the manifest in {path}"), data)


def check_packages(packages, spmc, board=QEMU):
    """What BL2 would refuse, or worse, not notice."""
    secure_dram, most = board.secure_dram, board.max_package
    if len(packages) > MAX_PACKAGES:
        raise Problem(f"{len(packages)} partitions, but BL2 loads {MAX_PACKAGES} at most")
    loaded = [Package("the SPMC", None, secure_dram.start, spmc)]
    for package in packages:
        end = package.load_address + len(package.data)
        if not re.fullmatch(r"[A-Za-z][\w,.+-]{0,30}", package.name):
            raise Problem(f"{package.name} can't be the name of a node; letters, digits and ,._+- can")
        if len(package.data) > most:
            size = len(package.data)
            raise Problem(f"the package of {package.name} has {size} bytes, but BL2 loads {most} at most")
        if package.load_address not in secure_dram or end > secure_dram.stop:
            raise Problem(
                f"the package of {package.name} would lie at {package.load_address:#x}-{end - 1:#x},"
                f" outside secure DRAM {secure_dram.start:#x}-{secure_dram.stop - 1:#x}"
            )
        for other in loaded:
            if other.uuid == package.uuid:
                raise Problem(f"{other.name} and {package.name} have the same UUID: {package.uuid}")
            if other.load_address < end and package.load_address < other.load_address + len(other.data):
                raise Problem(f"{other.name} and {package.name} would be loaded over each other")
        loaded.append(package)


# ---- Firmware configuration, FIP, flash ----


# TF-A's platform "fvp" looks for this too.
TB_FW = """\ttb_fw-config {
\t\tcompatible = "arm,tb_fw";
\t\tdisable_auth = <0>;
\t\tmbedtls_heap_addr = <0 0>;
\t\tmbedtls_heap_size = <0>;
\t};

"""


def tb_fw_config_source(packages, board=QEMU):
    nodes = "".join(
        f'\t\t{package.name} {{\n'
        f'\t\t\tuuid = "{package.uuid}";\n'
        f"\t\t\tload-address = <{package.load_address:#x}>;\n"
        f"\t\t}};\n"
        for package in packages
    )
    start = TB_FW if board is FVP else ""
    return f'/dts-v1/;\n\n/ {{\n{start}\tsecure-partitions {{\n\t\tcompatible = "arm,sp";\n{nodes}\t}};\n}};\n'


def make_fip(images):
    """images: pairs of UUID and bytes, in the order in which they shall lie."""
    header = struct.pack("<IIQ", 0xAA64_0001, 0x1234_5678, 0)
    offset = len(header) + 40 * (len(images) + 1)
    contents, body = b"", b""
    for name, data in images:
        contents += name.bytes + struct.pack("<QQQ", offset + len(body), len(data), 0)
        body += data
    return header + contents + bytes(16) + struct.pack("<QQQ", offset + len(body), 0, 0) + body


def make_flash(bl1, fip):
    if len(bl1) > FIP_OFFSET:
        raise Problem(f"BL1 has {len(bl1)} bytes, {FIP_OFFSET} at most fit")
    if FIP_OFFSET + len(fip) > FLASH_SIZE:
        raise Problem(f"the FIP has {len(fip)} bytes, {FLASH_SIZE - FIP_OFFSET} at most fit into the flash")
    return bl1.ljust(FIP_OFFSET, b"\0") + fip


def check_config(dtb, what, most):
    if len(dtb) > most:
        raise Problem(f"{what} has {len(dtb)} bytes compiled, but TF-A has room for {most}")
    return dtb


def decompile(dtb, source):
    """A DTB as a plain source, for TF-A's build."""
    compiled = source.with_suffix(".tmp")
    compiled.write_bytes(dtb)
    run_tool(["dtc", "-q", "-I", "dtb", "-O", "dts", "-o", source, compiled], source)
    compiled.unlink()


def image_line(package):
    """Where the image of a package will be, for where.py."""
    image = parts_of(package.data, package.name)[1]
    start = package.load_address + package.data.index(image)
    return f"{package.name} {start:#x} {len(image):#x} {package.program}\n"


def write_layout(packages, spmc_manifest, out):
    """What TF-A's own build takes (SP_LAYOUT_FILE, ARM_SPMC_MANIFEST_DTS), in the folder `out`."""
    out.mkdir(exist_ok=True)
    layout = {}
    for package in packages:
        manifest, image = parts_of(package.data, package.name)
        (out / f"{package.name}.bin").write_bytes(image)
        decompile(manifest, out / f"{package.name}.dts")
        layout[package.name] = {
            "image": f"{package.name}.bin",
            "pm": f"{package.name}.dts",
            "uuid": str(package.uuid),
            "physical-load-address": f"{package.load_address:#x}",
        }
    (out / "sp_layout.json").write_text(json.dumps(layout, indent=4) + "\n")
    decompile(spmc_manifest, out / "spmc.dts")


# ---- All of it ----


def collect_packages(arguments, given):
    if given.get("PACKAGES"):
        return list(ready_made_packages(given["PACKAGES"].split()))
    if given.get("SP_LAYOUT_FILE"):
        return list(packages_of_layout(given["SP_LAYOUT_FILE"], arguments.out))
    return list(packages_of_scenario(arguments.scenario, arguments.programs, arguments.out))


def tb_fw_config(arguments, given, packages, board):
    source = given.get("TB_FW_CONFIG")
    if not source:
        source = arguments.out / "tb_fw_config.dts"
        source.write_text(tb_fw_config_source(packages, board))
    return check_config(compile_tree(source, arguments.out / "tb_fw_config.dtb"), "TB_FW_CONFIG", board.max_config)


def version_line(spmc_manifest):
    """The version of FF-A that our normal world is to speak, if a comment in the SPMC's manifest says which."""
    source = Path(spmc_manifest).read_bytes() if spmc_manifest != "none" else b""
    found = re.search(rb"^// normal world: FF-A (\d+)\.(\d+)$", source, re.MULTILINE)
    return "version {} {}\n".format(*map(int, found.groups())) if found else ""


def pack(arguments, given):
    board = FVP if arguments.fvp else QEMU
    spmc_manifest = given.get("SPMC_MANIFEST") or arguments.scenario / "spmc.dts"
    spmc = read(given.get("SPMC") or arguments.programs / f"{board.spmc}.bin", "the SPMC's image")
    bl33 = given.get("BL33") or arguments.programs / f"tantalum-{'shell' if board is FVP else 'normal-world'}.bin"
    packages = collect_packages(arguments, given)
    check_packages(packages, spmc, board)
    # A trusted OS that is alone in the secure world has no manifest, and BL2 then loads no packages.
    alone = spmc_manifest == "none"
    manifest = b"" if alone else compile_tree(spmc_manifest, arguments.out / "spmc.dtb")
    images = {
        "tb-fw": read(arguments.tfa / "bl2.bin", "BL2"),
        "soc-fw": read(arguments.tfa / "bl31.bin", "BL31"),
        "tos-fw": spmc,
    }
    if not alone:
        images["tb-fw-config"] = tb_fw_config(arguments, given, packages, board)
        images["tos-fw-config"] = check_config(manifest, "the SPMC's manifest", board.max_manifest)
    if bl33 != "none":
        images["nt-fw"] = read(bl33, "the normal world's image")
    if board is FVP:
        images.update((name, read(arguments.tfa / f"{name}.dtb", name)) for name in FVP_CONFIGS)
        write_layout(packages, manifest, arguments.out / "tfa")
    entries = [(FIP_UUIDS[name], data) for name, data in images.items()]
    entries += [(package.uuid, package.data) for package in packages]
    for package in packages:
        (arguments.out / f"{package.name}.pkg").write_bytes(package.data)
        what = f"{package.name}: {len(package.data)} bytes at {package.load_address:#x}, {package.uuid}"
        print(f"    {what}", file=sys.stderr)
    # For the shell, that people call them by their names.
    names = "".join(f"{package.uuid} {package.name}\n" for package in packages)
    (arguments.out / "partitions").write_text(names + version_line(spmc_manifest))
    known = "".join(image_line(package) for package in packages if package.program)
    (arguments.out / "images").write_text(known)
    fip = make_fip(entries)
    (arguments.out / "fip.bin").write_bytes(fip)
    bl1 = read(arguments.tfa / "bl1.bin", "BL1")
    if board is FVP:
        (arguments.out / "bl1.bin").write_bytes(bl1)
        return
    # Renamed when complete: a machine that is running may have the old one open.
    temporary = arguments.out / f"flash.{os.getpid()}"
    temporary.write_bytes(make_flash(bl1, fip))
    temporary.replace(arguments.out / "flash.bin")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tfa", type=Path, required=True, help="folder with bl1.bin, bl2.bin, bl31.bin")
    parser.add_argument("--programs", type=Path, required=True, help="folder with the images that build.sh made")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is packed")
    parser.add_argument("--fvp", action="store_true", help="for Arm's FVP: BL1 and a FIP, and what TF-A's own build takes")
    parser.add_argument("scenario", type=Path, help="folder of the scenario")
    arguments = parser.parse_args()
    try:
        pack(arguments, os.environ)
    except Problem as problem:
        sys.exit(f"error: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
