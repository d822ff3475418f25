#!/usr/bin/env python3
"""Tests of where.py."""

import tempfile
import unittest
from pathlib import Path

import where

LOG = """\
spmc: "good" (0x8009) context 0 on PE 0, pc 0xe40ef34: read of secure 0xe100000: memory of the SPMC; it takes the exception
spmc: partition "attack" (0x8003) is stopped; the others and the normal world go on
  where    context 0 on PE 0, S-EL1 at pc 0x000f000a00 (outside its image)
  what     instruction fetch from secure 0xf000a00 (virtual 0xf000a00): nothing that the SPMC manifest declares
  after    esr_el1 0x86000010, far_el1 0xf000000, elr_el1 0xf000000; x30 0xe40fd30, sp_el1 0xe43d240, vbar_el1 0xf000800
spmc: partition "user" (0x8004) is stopped; the others and the normal world go on\r
  where    context 0 on PE 0, S-EL0 at pc 0x000e51642c (load address + 0x1642c)\r
\0\xff
"""


class Places(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_stops_are_found_with_their_addresses(self):
        (self.folder / "console.log").write_bytes(LOG.encode("latin-1"))
        found = where.stops(self.folder / "console.log")
        self.assertEqual(found, [("attack", [0xF000A00, 0xE40FD30]), ("user", [0xE51642C])])

    def test_images_without_a_program_are_left_out(self):
        (self.folder / "images").write_text("echo 0xe204000 0x100 tantalum-echo\nother 0xe304000 0x200 nothing\n")
        (self.folder / "tantalum-echo").touch()
        found = list(where.images(self.folder, self.folder))
        self.assertEqual(found, [where.Image("echo", 0xE204000, 0xE204100, self.folder / "tantalum-echo")])


if __name__ == "__main__":
    unittest.main()
