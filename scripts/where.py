#!/usr/bin/env python3
"""Says where in the source the partitions were that a boot's console reports as stopped. Called by run.sh.

Usage: where.py FOLDER PROGRAMS    what pack.sh packed, with the console's log; the folder of the programs as ELF files
"""

import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

# A program in memory: where its image is, and the ELF file that it was made of.
Image = namedtuple("Image", "name start end elf")

# Reports of more stops than this are not looked into.
MOST = 10

STOPPED = re.compile(r'partition "(?P<name>[^"]+)" \(0x[0-9a-f]+\) is stopped')
PLACES = re.compile(r"^  (?:where .* at pc|after .* x30) (0x[0-9a-f]+)")


def images(folder, programs):
    """The partitions' images, of programs of this tree."""
    for line in (folder / "images").read_text().splitlines():
        name, start, size, program = line.split()
        elf = programs / program
        if elf.is_file():
            yield Image(name, int(start, 0), int(start, 0) + int(size, 0), elf)


def stops(log):
    """Of each stopped partition the name, and the addresses where it was and where it was called from."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        stopped = STOPPED.search(line)
        if stopped:
            found.append((stopped["name"], []))
        elif found and len(found[-1][1]) < 2:
            found[-1][1].extend(int(place, 0) for place in PLACES.findall(line))
    return found[:MOST]


def source(image, address):
    """Function, file and line of an address in an image, or None."""
    command = ["aarch64-linux-gnu-addr2line", "-C", "-f", "-e", image.elf, hex(address - image.start)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    function, place = (result.stdout.splitlines() + ["??", "??"])[:2]
    if "?" in place:
        return None
    function = re.sub(r"::h[0-9a-f]{16}$", "", function)
    # What is before the tree's own folders, or a crate's, differs from machine to machine.
    place = re.sub(r"^.*/((?=partitions/)|registry/src/[^/]+/)", "", place.split(" ")[0])
    return f"{place}  {function}"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, programs = map(Path, sys.argv[1:])
    try:
        known, stopped = list(images(folder, programs)), stops(folder / "console.log")
    except OSError:
        return
    for name, addresses in stopped:
        for title, address in zip(("at", "from"), addresses):
            image = next((image for image in known if image.start <= address < image.end), None)
            # x30 is where the call returns to: the call is before it.
            where = image and source(image, address - (4 if title == "from" else 0))
            if where:
                print(f"    {name}: {title:4} {where}", file=sys.stderr)


if __name__ == "__main__":
    main()
