#!/usr/bin/env python3
"""Lists links of the tree's Markdown files to files that are not there."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# What is not the tree's own.
OTHERS = {"target", ".git", "artifacts", "corpus"}


def broken():
    for page in sorted(ROOT.rglob("*.md")):
        if OTHERS & set(page.relative_to(ROOT).parts):
            continue
        for link in LINK.findall(page.read_text()):
            if "://" not in link and not (page.parent / link).exists():
                yield f"{page.relative_to(ROOT)}: {link}"


if __name__ == "__main__":
    sys.exit("\n".join(broken()) or 0)
