#!/usr/bin/env python3
"""Tests of pack.py."""

import contextlib
import io
import json
import shutil
import struct
import tempfile
import unittest
import uuid
from pathlib import Path
from types import SimpleNamespace

import pack

DTB = pack.DTB_MAGIC + bytes(100)
TINY = b"\x01\x02\x03\x04"


def package(name="sp", number=1, address=0x0E30_0000, size=0x1000):
    return pack.Package(name, uuid.UUID(int=number), address, bytes(size))


def device_tree(*trees):
    """A DTB of a root node with these properties, and nodes, which are dictionaries too."""
    names = b""

    def node(name, tree):
        nonlocal names
        label = name.encode() + b"\0"
        body = struct.pack(">I", 1) + label + bytes(-len(label) % 4)
        for name, value in tree.items():
            if isinstance(value, dict):
                body += node(name, value)
                continue
            body += struct.pack(">III", 3, len(value), len(names)) + value + bytes(-len(value) % 4)
            names += name.encode() + b"\0"
        return body + struct.pack(">I", 2)

    body = node("", {name: value for tree in trees for name, value in tree.items()}) + struct.pack(">I", 9)
    header = struct.pack(">4s9I", pack.DTB_MAGIC, 40 + len(body) + len(names), 40, 40 + len(body), 0, 17, 16, 0, 0, 0)
    return header + body + names


class Packages(unittest.TestCase):
    def header(self, data):
        return struct.unpack_from("<4s5I", data)

    def test_version_2_has_manifest_and_image_at_pages(self):
        data = pack.make_package(DTB, TINY)
        self.assertEqual(self.header(data), (b"SPKG", 2, 0x1000, len(DTB), 0x4000, 4))
        self.assertEqual((pack.manifest_in(data, ""), data[0x4000:]), (DTB, TINY))

    def test_version_1_has_the_manifest_behind_the_header(self):
        data = pack.make_package(DTB, TINY, 1)
        self.assertEqual(self.header(data), (b"SPKG", 1, 24, len(DTB), 0x1000, 4))
        self.assertEqual((pack.manifest_in(data, ""), data[0x1000:]), (DTB, TINY))

    def test_transfer_list_has_both_at_pages(self):
        data = pack.make_package(DTB, TINY, "list")
        signature, checksum, version, header, alignment, size, most, flags, _ = struct.unpack_from("<IBBBBIIII", data)
        self.assertEqual((signature, version, header, alignment, flags), (0x4A0FB10B, 1, 24, 3, 1))
        self.assertEqual((size, most, sum(data) % 256), (len(data), len(data), 0))
        self.assertEqual(data[0x1000 : 0x1000 + len(DTB)], DTB)
        self.assertEqual(data[0x4000:], TINY)
        self.assertEqual(pack.parts_of(data, ""), (DTB, TINY))
        with self.assertRaisesRegex(pack.Problem, "does not fit"):
            pack.make_package(bytes(0xFF9), TINY, "list", 0x1000, 0x2000)

    def test_a_big_manifest_moves_the_image(self):
        self.assertEqual(self.header(pack.make_package(bytes(0x4000), TINY))[4], 0x5000)
        self.assertEqual(self.header(pack.make_package(bytes(0x1000), TINY, 1))[4], 0x2000)

    def test_a_manifest_must_fit_between_given_offsets(self):
        with self.assertRaisesRegex(pack.Problem, "does not fit"):
            pack.make_package(bytes(0x1001), TINY, 2, 0x1000, 0x2000)

    def test_what_bl2_would_refuse_is_refused(self):
        for packages, message in (
            ([package(f"sp{n}", n, 0x0E30_0000 + 0x1000 * n) for n in range(9)], "9 partitions"),
            ([package(size=pack.QEMU.max_package + 1)], "4194304 at most"),
            ([package(address=0x6000_0000)], "outside secure DRAM"),
            ([package(address=0x0EFF_F000, size=0x1001)], "outside secure DRAM"),
            ([package("a"), package("b", 1, 0x0E40_0000)], "a and b have the same UUID"),
            ([package("a"), package("b", 2, 0x0E30_0800)], "a and b would be loaded over each other"),
            ([package(address=0x0E10_0000)], "the SPMC and sp would be loaded over"),
            ([package("no good")], "name of a node"),
        ):
            with self.assertRaisesRegex(pack.Problem, message):
                pack.check_packages(packages, bytes(0x1000))

    def test_what_fits_is_taken(self):
        pack.check_packages([package("a"), package("b", 2, 0x0E30_1000)], bytes(0x20_0000))


class Fvp(unittest.TestCase):
    def test_the_demonstration_is_packed(self):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for name in "bl1.bin", "bl2.bin", "bl31.bin", *(f"{config}.dtb" for config in pack.FVP_CONFIGS):
            (folder / name).write_bytes(TINY)
        for name in "fvp", "shell", "echo", "forward":
            (folder / f"tantalum-{name}.bin").write_bytes(name.encode())
        scenario = Path(__file__).resolve().parent.parent / "manifests/fvp/demo"
        arguments = SimpleNamespace(fvp=True, tfa=folder, programs=folder, out=folder, scenario=scenario)
        with contextlib.redirect_stderr(io.StringIO()):
            pack.pack(arguments, {})
        fip = (folder / "fip.bin").read_bytes()
        images = ["tb-fw", "soc-fw", "tos-fw", "nt-fw", "tb-fw-config", "tos-fw-config", *pack.FVP_CONFIGS]
        for name in images:
            self.assertIn(pack.FIP_UUIDS[name].bytes, fip, name)
        layout = json.loads((folder / "tfa/sp_layout.json").read_text())
        addresses = {name: entry["physical-load-address"] for name, entry in layout.items()}
        self.assertEqual(addresses, {"echo": "0x7000000", "forward": "0x7100000"})
        self.assertEqual((folder / "tfa/echo.bin").read_bytes(), b"echo")


class Manifests(unittest.TestCase):
    WORDS = struct.pack(">4I", 0x1E67B5B4, 0xE14F904A, 0x13FB1FB8, 0xCBDAE1DA)
    STRING = "b4b5671e-4a90-4fe1-b81f-fb13dae1dacb"

    def test_uuid_words_have_their_little_end_first(self):
        self.assertEqual(str(pack.manifest_uuid(self.WORDS, "")), self.STRING)

    def test_the_first_of_several_uuids_is_the_packages(self):
        self.assertEqual(str(pack.manifest_uuid(self.WORDS + bytes(16), "")), self.STRING)

        self.assertEqual(str(pack.manifest_uuid(self.WORDS + bytes(64), "")), self.STRING)

    def test_a_uuid_may_be_a_services(self):
        service = {"services": {"first": {"uuid": self.STRING.encode() + b"\0"}}}
        dtb = device_tree({"load-address": struct.pack(">I", 0x0E30_0000)}, service)
        self.assertEqual(pack.identity(dtb, ""), (uuid.UUID(self.STRING), 0x0E30_0000))
        both = device_tree({"uuid": self.WORDS, "load-address": struct.pack(">I", 0x0E30_0000)}, service)
        self.assertEqual(pack.identity(both, "")[0], uuid.UUID(self.STRING))

    def test_a_uuid_may_be_a_string(self):
        self.assertEqual(str(pack.manifest_uuid(self.STRING.encode() + b"\0", "")), self.STRING)

    def test_anything_else_is_no_uuid(self):
        for value in b"", bytes(12), b"x" * 36 + b"\0":
            with self.assertRaisesRegex(pack.Problem, "uuid"):
                pack.manifest_uuid(value, "")

    def test_the_load_address_may_have_one_or_two_cells(self):
        for address in struct.pack(">I", 0x0E30_0000), struct.pack(">Q", 0x0E30_0000):
            dtb = device_tree({"uuid": self.WORDS, "load-address": address})
            self.assertEqual(pack.identity(dtb, ""), (uuid.UUID(self.STRING), 0x0E30_0000))

    def test_what_a_layout_file_gives_comes_first(self):
        dtb = device_tree({"uuid": self.WORDS, "load-address": bytes(4)})
        given = "00000000-0000-0000-0000-000000000007", "0xe400000"
        self.assertEqual(pack.identity(dtb, "", *given), (uuid.UUID(int=7), 0x0E40_0000))

    def test_a_missing_property_is_named(self):
        with self.assertRaisesRegex(pack.Problem, 'no property "load-address"'):
            pack.identity(device_tree({"uuid": self.WORDS}), "")

    def test_a_load_address_lies_on_a_page(self):
        with self.assertRaisesRegex(pack.Problem, "not on a page"):
            pack.identity(device_tree({"uuid": self.WORDS, "load-address": struct.pack(">I", 0x0E30_0010)}), "")


class Firmware(unittest.TestCase):
    def test_fip_entries_point_at_their_images(self):
        images = [(uuid.UUID(int=1), b"first"), (uuid.UUID(int=2), b"the second")]
        fip = pack.make_fip(images)
        self.assertEqual(struct.unpack_from("<I", fip), (0xAA64_0001,))
        for number, (name, data) in enumerate(images):
            entry = 16 + 40 * number
            offset, size, _ = struct.unpack_from("<QQQ", fip, entry + 16)
            self.assertEqual((fip[entry : entry + 16], fip[offset : offset + size]), (name.bytes, data))
        self.assertEqual(fip[16 + 40 * len(images) :][:16], bytes(16))

    def test_the_fip_lies_behind_bl1(self):
        flash = pack.make_flash(b"bl1", b"fip")
        self.assertEqual((flash[:3], flash[pack.FIP_OFFSET :]), (b"bl1", b"fip"))

    def test_a_configuration_has_the_room_that_there_is(self):
        pack.check_config(bytes(4096), "", 4096)
        with self.assertRaisesRegex(pack.Problem, "4097 bytes compiled.*room for 4096"):
            pack.check_config(bytes(4097), "", 4096)

    def test_the_fvp_has_a_memory_map_of_its_own(self):
        pack.check_packages([package(address=0x0700_0000)], bytes(0x1000), pack.FVP)
        for wrong in package(), package(address=0x0700_0000, size=0xB_0001), package(address=0x0600_0000):
            with self.assertRaises(pack.Problem):
                pack.check_packages([wrong], bytes(0x1000), pack.FVP)
        self.assertIn('compatible = "arm,tb_fw"', pack.tb_fw_config_source([], pack.FVP))
        self.assertNotIn("tb_fw", pack.tb_fw_config_source([]))

    def test_tb_fw_config_names_uuid_and_address(self):
        source = pack.tb_fw_config_source([SimpleNamespace(name="a", uuid=uuid.UUID(int=5), load_address=0x0E30_0000)])
        name = uuid.UUID(int=5)
        for line in 'compatible = "arm,sp"', f'uuid = "{name}"', "load-address = <0xe300000>":
            self.assertIn(line, source)


if __name__ == "__main__":
    unittest.main()
