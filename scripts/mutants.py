#!/usr/bin/env python3
"""Sums up what cargo-mutants found: a line for each file, then every mutant that no test noticed, and fails if there is one.

mutants.py FOLDER...    folders in which cargo-mutants wrote its mutants.out
"""

import json
import sys
from collections import Counter
from pathlib import Path

COLUMNS = {
    "mutants": ("CaughtMutant", "Timeout", "Unviable", "MissedMutant"),
    "killed": ("CaughtMutant",),
    "timed out": ("Timeout",),
    "did not build": ("Unviable",),
    "survived": ("MissedMutant",),
}


def outcomes(folder):
    for outcome in json.loads((folder / "mutants.out" / "outcomes.json").read_text())["outcomes"]:
        if isinstance(outcome["scenario"], dict):
            yield outcome["scenario"]["Mutant"], outcome["summary"]


def row(name, cells):
    print(f"{name:<45}" + "".join(f"{cell:>15}" for cell in cells))


def main():
    files, survivors = {}, []
    for folder in map(Path, sys.argv[1:]):
        for mutant, summary in outcomes(folder):
            files.setdefault(mutant["file"], Counter())[summary] += 1
            if summary == "MissedMutant":
                survivors.append(mutant["name"])
    row("", COLUMNS)
    for name, counts in [*sorted(files.items()), ("all", sum(files.values(), Counter()))]:
        row(name, (sum(counts[summary] for summary in column) for column in COLUMNS.values()))
    for survivor in survivors:
        print(f"survived: {survivor}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
