"""Tries scripts/dockerfile without building: the commands that it would run, and how the figures of the images are written."""

import os
import re
import subprocess
import sys

from common import ROOT, SERVICES, check, finish

sys.path.append(str(ROOT / "scripts/dockerfile.d"))

import figures


def commands():
    """Checks the commands against docker/Dockerfile; returns their number."""
    ended = subprocess.run([ROOT / "scripts/dockerfile", "--dry-run"], text=True, capture_output=True, env=os.environ | {"SOSOHAPPY_CACHE": "/nonexistent"})
    check(ended.returncode == 0, f"dockerfile: --dry-run fails: {ended.stderr}")
    lines = ended.stdout.splitlines()
    builds = [line for line in lines if " --layers " in line]
    found = {re.search(r"--tag localhost/sosohappy/(\w+):", line)[1]: re.search(r"BINARY=(\S+)", line)[1] for line in builds}
    names = {name: f"sosohappy-{name}" for name in SERVICES} | {"fleet": "fleet"}
    check(found == names, f"dockerfile: builds {found}, the images are {names}")
    text = (ROOT / "docker/Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    for name in set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages:
        made = [line for line in lines if re.search(rf" bud .*--tag (docker\.io/library/)?{re.escape(name)} ", line)]
        check(len(made) == 1, f"dockerfile: {name} is not made where it cannot be pulled")
        check(f"`{name}`" in (ROOT / "docs/cluster.md").read_text(), f"cluster.md: does not say of what {name} is made")
    return len(lines)


def written():
    """Tries how a page is written: the first time, and again beside another section."""
    rows, bases = [["feed", "3145728", "1048576", "524288"]], [["rust:1", "made"], ["cc", "pulled"]]
    lines = figures.section(rows, [30.0, 10.0, 20.0, 12.0], bases, "90", "C", "D", "1.0")
    check("| feed | 3.0 MiB | 2.0 MiB | 1.0 MiB | 0.5 MiB |" in lines, f"dockerfile: the row of an image is {lines}")
    check(any("30.00 ms on an empty data folder, then 12.00 ms" in line for line in lines), f"dockerfile: the starts are {lines}")
    first = figures.written("# P\n\ntext\n", lines)
    again = figures.written(first + "\n## Other\n\nkept\n", lines[:1])
    check(first.startswith("# P\n\ntext\n\n## Images\n"), f"dockerfile: the first figures give {first}")
    check(again == "# P\n\ntext\n\n## Images\n\n## Other\n\nkept\n", f"dockerfile: the next figures give {again}")


def main():
    written()
    finish(f"{commands()} commands of its dry run")


main()
