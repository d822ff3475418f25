#!/usr/bin/env python3
"""Packs what TF-A boots: partition packages, TB_FW_CONFIG, the FIP and the flash image. Called by pack.sh.

The formats: a firmware image package (FIP) is a table of contents of (UUID, offset, size, flags) and the images; a
partition package is a header of 24 bytes, the partition's manifest (a DTB) and its image; TB_FW_CONFIG lists for BL2 the
packages' UUIDs and where to load them.
"""

import argparse
import struct
import sys
import uuid
from collections import namedtuple
from pathlib import Path

PAGE = 0x1000
MIB = 1 << 20

# What TF-A's platform "qemu" has room for.
MAX_PACKAGES = 8
MAX_PACKAGE = 4 * MIB
MAX_CONFIG = PAGE
SECURE_DRAM = range(0x0E10_0000, 0x0F00_0000)
FLASH_SIZE = 64 * MIB
FIP_OFFSET = 0x4_0000

FIP_UUIDS = {
    "tb-fw": "5ff9ec0b-4d22-3e4d-a544-c39d81c73f0a",
    "soc-fw": "47d4086d-4cfe-9846-9b95-2950cbbd5a00",
    "tos-fw": "05d0e189-53dc-1347-8d2b-500a4b7a3e38",
    "nt-fw": "d6d0eea7-fcea-d54b-9782-9934f234b6e4",
    "tb-fw-config": "6c0458ff-af6b-7d4f-82ed-aa27bc69bfd2",
    "tos-fw-config": "26257c1a-dbc6-7f47-8d96-c4c4b0248021",
}

Package = namedtuple("Package", "name uuid load_address data")


class Problem(Exception):
    """Something that the user can put right; its text says what."""


def read(path, what):
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Problem(f"{what}: {error.strerror}: {path}") from error
    if not data:
        raise Problem(f"{what} is empty: {path}")
    return data


def align(value, to):
    return (value + to - 1) // to * to


# ---- Device trees ----


def root_properties(dtb, what):
    """The properties of a DTB's root node, name to bytes."""
    if len(dtb) < 40 or struct.unpack_from(">I", dtb)[0] != 0xD00DFEED:
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
            if depth == 1:
                end = dtb.index(b"\0", strings + name)
                properties[dtb[strings + name : end].decode()] = dtb[at : at + length]
            at = align(at + length, 4)
        elif token == 9:  # the tree ends
            return properties


def partition_uuid(value, what):
    """The UUID of a manifest: the canonical string, or its four words as the SMC calling convention has them in registers,
    little end first. Of several the first is the package's."""
    try:
        if len(value) >= 37:
            return uuid.UUID(value.split(b"\0")[0].decode())
        if len(value) >= 16:
            return uuid.UUID(bytes=struct.pack("<4I", *struct.unpack_from(">4I", value)))
    except ValueError:
        pass
    raise Problem(f'{what}: its "uuid" is neither four words nor a string like 01234567-89ab-cdef-0123-456789abcdef')


def cells(value):
    return int.from_bytes(value, "big")


def partition_identity(dtb, what):
    """UUID and load address of a partition, from its manifest."""
    properties = root_properties(dtb, what)
    for name in "uuid", "load-address":
        if name not in properties:
            raise Problem(f'{what} has no property "{name}" in its root node')
    load_address = cells(properties["load-address"])
    if load_address % PAGE:
        raise Problem(f"{what}: its load-address {load_address:#x} is not on a page")
    return partition_uuid(properties["uuid"], what), load_address


# ---- Packages ----


def make_package(dtb, image, version):
    """Version 2 has manifest and image at fixed pages, version 1 the manifest right behind the header."""
    header_size = 24
    dtb_offset = header_size if version == 1 else PAGE
    image_offset = max(align(dtb_offset + len(dtb), PAGE), PAGE if version == 1 else 4 * PAGE)
    data = bytearray(image_offset + len(image))
    struct.pack_into("<4s5I", data, 0, b"SPKG", version, dtb_offset, len(dtb), image_offset, len(image))
    data[dtb_offset : dtb_offset + len(dtb)] = dtb
    data[image_offset:] = image
    return bytes(data)


def manifest_of(data, what):
    """The manifest inside a ready-made package."""
    if data[:4] != b"SPKG":
        raise Problem(f"{what} is no partition package (it does not begin with SPKG)")
    offset, size = struct.unpack_from("<2I", data, 8)
    return data[offset : offset + size]


def load_packages(partitions, ready_made):
    packages = []
    for argument in partitions:
        name, version, dtb_path, image_path = argument.split(":", 3)
        dtb = read(dtb_path, f"the manifest of {name}")
        image = read(image_path, f"the image of {name}")
        data = make_package(dtb, image, int(version))
        packages.append(Package(name, *partition_identity(dtb, f"the manifest of {name}"), data))
    for path in ready_made:
        data = read(path, "the package")
        what = f"the manifest in {path}"
        packages.append(Package(Path(path).stem, *partition_identity(manifest_of(data, path), what), data))
    return packages


def check_packages(packages):
    if len(packages) > MAX_PACKAGES:
        raise Problem(f"{len(packages)} partitions, but BL2 loads {MAX_PACKAGES} at most")
    for number, package in enumerate(packages):
        end = package.load_address + len(package.data)
        if len(package.data) > MAX_PACKAGE:
            raise Problem(f"the package of {package.name} has {len(package.data)} bytes, BL2 loads {MAX_PACKAGE} at most")
        if package.load_address not in SECURE_DRAM or end > SECURE_DRAM.stop:
            raise Problem(
                f"the package of {package.name} would lie at {package.load_address:#x}-{end - 1:#x},"
                f" outside secure DRAM {SECURE_DRAM.start:#x}-{SECURE_DRAM.stop - 1:#x}"
            )
        for other in packages[:number]:
            if other.uuid == package.uuid:
                raise Problem(f"{other.name} and {package.name} have the same UUID {package.uuid}: BL2 would load one twice")
            if other.load_address < end and package.load_address < other.load_address + len(other.data):
                raise Problem(f"the packages of {other.name} and {package.name} overlap in memory")


# ---- Firmware configuration, FIP, flash ----


def tb_fw_config_source(packages):
    nodes = "".join(
        f'\t\t{p.name} {{\n\t\t\tuuid = "{p.uuid}";\n\t\t\tload-address = <{p.load_address:#x}>;\n\t\t}};\n' for p in packages
    )
    return f'/dts-v1/;\n\n/ {{\n\tsecure-partitions {{\n\t\tcompatible = "arm,sp";\n{nodes}\t}};\n}};\n'


def make_fip(images):
    """images: pairs of UUID and bytes, in the order they shall lie."""
    header = struct.pack("<IIQ", 0xAA64_0001, 0x1234_5678, 0)
    contents, body = b"", b""
    offset = len(header) + 40 * (len(images) + 1)
    for identity, data in images:
        contents += identity.bytes + struct.pack("<QQQ", offset + len(body), len(data), 0)
        body += data
    return header + contents + bytes(16) + struct.pack("<QQQ", offset + len(body), 0, 0) + body


def make_flash(bl1, fip):
    if len(bl1) > FIP_OFFSET:
        raise Problem(f"BL1 has {len(bl1)} bytes, {FIP_OFFSET} at most fit")
    if FIP_OFFSET + len(fip) > FLASH_SIZE:
        raise Problem(f"the FIP has {len(fip)} bytes, {FLASH_SIZE - FIP_OFFSET} at most fit into the flash")
    return bl1.ljust(FIP_OFFSET, b"\0") + fip


def config(path, what):
    data = read(path, what)
    if len(data) > MAX_CONFIG:
        raise Problem(f"{what} has {len(data)} bytes, TF-A gives it one page ({MAX_CONFIG})")
    return data


def list_packages(arguments):
    packages = load_packages(arguments.partition, arguments.package)
    check_packages(packages)
    for package in packages:
        (arguments.out / f"{package.name}.pkg").write_bytes(package.data)
    (arguments.out / "tb_fw_config.dts").write_text(tb_fw_config_source(packages))


def pack_flash(arguments):
    packages = load_packages(arguments.partition, arguments.package)
    images = [
        ("tb-fw", read(arguments.tfa / "bl2.bin", "BL2")),
        ("soc-fw", read(arguments.tfa / "bl31.bin", "BL31")),
        ("tb-fw-config", config(arguments.tb_fw_config, "TB_FW_CONFIG")),
        ("tos-fw-config", config(arguments.spmc_manifest, "the SPMC's manifest")),
        ("tos-fw", read(arguments.spmc, "the SPMC's image")),
    ]
    if arguments.bl33:
        images.append(("nt-fw", read(arguments.bl33, "the normal world's image")))
    entries = [(uuid.UUID(FIP_UUIDS[name]), data) for name, data in images]
    entries += [(package.uuid, package.data) for package in packages]
    fip = make_fip(entries)
    (arguments.out / "fip.bin").write_bytes(fip)
    flash = arguments.out / "flash.bin"
    temporary = flash.with_suffix(".new")
    temporary.write_bytes(make_flash(read(arguments.tfa / "bl1.bin", "BL1"), fip))
    temporary.replace(flash)
    for package in packages:
        print(f"    {package.name}: {package.uuid}, {len(package.data)} bytes at {package.load_address:#x}", file=sys.stderr)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, function in ("packages", list_packages), ("flash", pack_flash):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--partition", action="append", default=[], metavar="NAME:VERSION:DTB:IMAGE")
        command.add_argument("--package", action="append", default=[], metavar="PKG")
    command.add_argument("--tfa", type=Path, required=True)
    command.add_argument("--spmc", required=True)
    command.add_argument("--spmc-manifest", required=True)
    command.add_argument("--tb-fw-config", required=True)
    command.add_argument("--bl33")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    try:
        arguments.function(arguments)
    except Problem as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
