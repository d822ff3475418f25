#!/usr/bin/env python3
"""Lists members of the workspace, one a line.

host      packages that are built and tested on the host: the workspace's default members, and what build scripts use
bare      packages for the bare-metal target: all others
programs  those of them that are programs
folders   the folder of every member
"""

import json
import subprocess
import sys
from pathlib import Path


def load():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    result = subprocess.run(command, stdout=subprocess.PIPE)
    if result.returncode:
        sys.exit("error: cargo does not understand the workspace; its message is above")
    return json.loads(result.stdout)


def host_names(metadata):
    defaults = set(metadata["workspace_default_members"])
    names = {package["name"] for package in metadata["packages"] if package["id"] in defaults}
    dependencies = [dependency for package in metadata["packages"] for dependency in package["dependencies"]]
    return names | {dependency["name"] for dependency in dependencies if dependency["kind"] == "build"}


def is_program(package):
    return any("bin" in target["kind"] for target in package["targets"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    metadata = load()
    host = host_names(metadata)
    select = {
        "host": lambda package: package["name"] in host and package["name"],
        "bare": lambda package: package["name"] not in host and package["name"],
        "programs": lambda package: package["name"] not in host and is_program(package) and package["name"],
        "folders": lambda package: Path(package["manifest_path"]).parent,
    }[sys.argv[1]]
    for package in metadata["packages"]:
        if select(package):
            print(select(package))


if __name__ == "__main__":
    main()
