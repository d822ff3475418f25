#!/usr/bin/env python3
"""Tests of new.py."""

import contextlib
import io
import re
import shutil
import tempfile
import unittest
import uuid
from pathlib import Path

import new
import pack

IDENTITY = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")


class NewPartition(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "partitions/echo").mkdir(parents=True)
        (self.root / "manifests").mkdir()
        shutil.copytree(new.ROOT / "manifests/qemu", self.root / "manifests/qemu")
        shutil.copy(new.ROOT / "Cargo.toml", self.root)

    def make(self, *arguments):
        with contextlib.redirect_stdout(io.StringIO()):
            new.make(self.root, *arguments)

    def text(self, path):
        return (self.root / path).read_text()

    def files(self):
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def test_facts_are_the_same_everywhere(self):
        self.make("adder", None, "4", IDENTITY)
        manifest = self.text("manifests/qemu/adder/adder.dts")
        self.assertIn('PARTITION(2, "adder", 0x0e300000, 4)\n', self.text("manifests/qemu/adder/spmc.dts"))
        self.assertIn("load-address = <0x0e300000>;", manifest)
        self.assertIn("execution-ctx-count = <4>;", manifest)
        self.assertIn("register_secondaries", self.text("partitions/adder/src/main.rs"))
        self.assertIn('    "partitions/adder",\n]\n', self.text("Cargo.toml"))
        words = re.search(r"uuid = <(.*)>", manifest)[1].split()
        value = b"".join(int(word, 16).to_bytes(4, "big") for word in words)
        self.assertEqual(pack.manifest_uuid(value, ""), IDENTITY)

    def test_one_context_has_no_others_to_start(self):
        self.make("adder")
        self.assertNotIn("secondaries", self.text("partitions/adder/src/main.rs"))

    def test_level_shows_in_program_and_manifest(self):
        self.make("adder", None, "1", None, "0")
        self.assertIn("entry!(main, level = el0);", self.text("partitions/adder/src/main.rs"))
        self.assertIn("exception-level = <1>; // S-EL0\n", self.text("manifests/qemu/adder/adder.dts"))

    def test_nothing_of_the_template_is_left(self):
        self.make("adder")
        for path in [*self.root.glob("partitions/adder/**/*.*"), *self.root.glob("manifests/qemu/adder/*")]:
            self.assertNotIn("@", path.read_text(), path)

    def test_another_joins_a_scenario(self):
        self.make("adder")
        self.make("other", "adder")
        manifest = self.text("manifests/qemu/adder/spmc.dts")
        self.assertRegex(manifest, r'PARTITION\(2, "adder".*\n\t\tPARTITION\(3, "other", 0x0e400000, 1\)\n\t};')
        self.assertIn("boot-order = <3>;", self.text("manifests/qemu/adder/other.dts"))
        uuids = {re.search("uuid = <.*>", self.text(f"manifests/qemu/adder/{name}.dts"))[0] for name in ("adder", "other")}
        self.assertEqual(len(uuids), 2)

    def test_what_is_refused_leaves_everything_as_it_was(self):
        before = self.files()
        for arguments, message in (
            ([""], "what shall it be called"),
            (["Adder"], "can't be its name"),
            (["a b"], "can't be its name"),
            (["../up"], "can't be its name"),
            (["9lives"], "can't be its name"),
            (["a-"], "can't be its name"),
            (["a" * 25], "24 at most"),
            (["spmc"], "means something else"),
            (["echo"], "taken: there is partitions/echo"),
            (["demo"], "taken: there is manifests/qemu/demo"),
            (["relay", "test"], "taken: there is manifests/qemu/test/relay.dts"),
            (["adder", "nowhere"], "no scenario manifests/qemu/nowhere"),
            (["adder", "test-attacks"], "more than 8"),
            (["adder", None, "2"], "CONTEXTS=2"),
            (["adder", None, "1", None, "2"], "EL=2"),
            (["adder", None, "4", None, "0"], "CONTEXTS=4"),
        ):
            with self.subTest(arguments), self.assertRaisesRegex(new.Problem, message):
                self.make(*arguments)
        self.assertEqual(self.files(), before)


if __name__ == "__main__":
    unittest.main()
