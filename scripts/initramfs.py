#!/usr/bin/env python3
"""Packs folders into an initramfs, a cpio archive as Linux unpacks it. Everything in it belongs to root.

Usage: initramfs.py OUT FOLDER...    of two files with the same name the later folder's is taken
"""

import os
import stat
import sys
from pathlib import Path

# Without these init has no console and can't mount the rest.
NODES = {"dev/console": (5, 1), "dev/null": (1, 3)}


def collect(folders):
    """All entries, path to file, each after the folder that it is in."""
    entries = {}
    for folder in map(Path, folders):
        for path in folder.rglob("*"):
            entries[path.relative_to(folder).as_posix()] = path
    return dict(sorted(entries.items()))


def record(number, name, mode, data=b"", device=(0, 0)):
    encoded = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head.ljust((len(head) + 3) & ~3, b"\0") + data.ljust((len(data) + 3) & ~3, b"\0")


def records(folders):
    entries = collect(folders)
    for number, (name, path) in enumerate(entries.items(), 1):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield record(number, name, mode, os.readlink(path).encode())
        elif stat.S_ISDIR(mode):
            yield record(number, name, stat.S_IFDIR | 0o755)
        else:
            yield record(number, name, stat.S_IFREG | (0o755 if mode & 0o100 else 0o644), path.read_bytes())
    if "dev" not in entries:
        yield record(len(entries) + 1, "dev", stat.S_IFDIR | 0o755)
    for number, (name, device) in enumerate(NODES.items(), len(entries) + 2):
        yield record(number, name, stat.S_IFCHR | 0o600, device=device)
    yield record(0, "TRAILER!!!", 0)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out, *folders = sys.argv[1:]
    for folder in folders:
        if not Path(folder).is_dir():
            sys.exit(f"error: {folder} is no folder")
    temporary = Path(f"{out}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.writelines(records(folders))
    temporary.replace(out)


if __name__ == "__main__":
    main()
