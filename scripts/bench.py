#!/usr/bin/env python3
"""Compares what was measured with the figures in bench.tsv: prints a table, writes one flat JSON object.

Usage: bench.py CONSOLE_LOG[,CONSOLE_LOG...] IMAGE JSON

The first log is that of the scenario with two partitions. Of the others the messages count, as NAME_of_N: N partitions.
"""

import json
import re
import sys
from pathlib import Path

COLUMNS = "{:<24} {:>10} {:>10} {:>7} {:>10}  {:<4} {}"


# What the SPMC says about itself when it boots; the last such line counts.
SPMC_SAYS = {
    "spmc_boot": r"^tantalum: .*?ready (\d+) ticks after entry",
    "ram_bytes": r"^tantalum: .*?RAM (\d+) bytes",
}


def said(console):
    """Name to number, from the normal world's lines "bench NAME NUMBER"."""
    return {name: int(number) for name, number in re.findall(r"^bench (\w+) (\d+)\s*$", console, re.MULTILINE)}


def measured(logs, image):
    """Name to number, from the SPMC's words, the normal world's and the image's size."""
    console, *others = (Path(log).read_text(errors="replace") for log in logs.split(","))
    numbers = {name: re.findall(pattern, console, re.MULTILINE)[-1:] for name, pattern in SPMC_SAYS.items()}
    result = {name: int(found[0]) for name, found in numbers.items() if found}
    result.update(said(console))
    for other in others:
        partitions = re.findall(r"^tantalum: \d+ core\(s\), (\d+) partition", other, re.MULTILINE)[-1]
        messages = {name: number for name, number in said(other).items() if name.startswith("direct_message")}
        result.update((f"{name}_of_{partitions}", number) for name, number in messages.items())
    return {**result, "image_bytes": Path(image).stat().st_size}


def references():
    """Name to (what, Hafnium's figure, the most it should be), in the order of the file; figures may be missing."""
    table = {}
    for line in Path(__file__).with_name("bench.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            name, what, *figures = line.split("\t")
            table[name] = (what, *(int(figure) if figure else None for figure in figures))
    return table


def row(name, number, what="", peer=None, most=None):
    def figure(value):
        return "" if value is None else f"{value:,}"

    ratio = f"{number / peer:.2f}" if peer else ""
    met = "" if most is None else "yes" if number <= most else "NO"
    return COLUMNS.format(name, figure(number), figure(peer), ratio, figure(most), met, what).rstrip()


def main():
    logs, image, output = sys.argv[1:]
    numbers, table = measured(logs, image), references()
    print(COLUMNS.format("name", "measured", "Hafnium", "ratio", "at most", "met", "what (instructions, not cycles)"))
    for name in [name for name in table if name in numbers] + sorted(numbers.keys() - table.keys()):
        print(row(name, numbers[name], *table.get(name, ())))
    missing = [name for name in table if name not in numbers]
    if missing:
        print(f"Not measured: {', '.join(missing)}")
    Path(output).write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
