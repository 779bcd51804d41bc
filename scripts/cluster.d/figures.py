"""Writes what the checks of the cluster have seen to a page: figures.py PAGE ROWS [--broken]

A line of ROWS is a check: its name, its status, its seconds, and its figures with `|` between them, all with tabs between them. The section of the page
is made anew; checks that are not in ROWS keep their lines. With --broken each check ran with a fault that it had to find.
"""

import datetime
import os
import re
import sys
from pathlib import Path

HEAD = """## Cluster

Written by `scripts/cluster check --write`: five services, Kafka, MariaDB and SecantusDB as pods on one node of a real Kubernetes, all on two cores
([cluster](cluster.md)). Four people post, like and write meanwhile, and read what came of it in the end. In the fleet before this one, without probes,
71.18 % of the calls during a roll-out were answered.

| check | ended | seen |
| --- | --- | --- |
"""
# How a line of a check with its fault is called.
BROKEN = "{}, with its fault"


def rows_of(text):
    """Returns the lines of a table by their first cell."""
    return {match[1]: match[0] for match in re.finditer(r"^\| ([a-z][a-z-]*(?:, with its fault)?) \|.*$", text, re.MULTILINE) if match[1] != "check"}


def row(line, broken, today, load):
    name, status, seconds, seen = line.split("\t")
    figures = seen.split("|")
    if calls := re.search(r"(\d+) calls, (\d+) failed", seen):
        total, failed = int(calls[1]), int(calls[2])
        if total:
            figures.append(f"{100 * (total - failed) / total:.2f} % answered")
    ended = ("found" if broken else "passed") if status == "0" else "**failed**"
    name = BROKEN.format(name) if broken else name
    return name, f"| {name} | {ended} after {seconds} s, {today}, load {load} | {'; '.join(figures)} |"


def written(page, lines, broken, today, load):
    """Returns the page with the lines of these checks."""
    head, found, rest = page.partition("\n## Cluster\n")
    # A section ends where the next one begins.
    section, more, others = rest.partition("\n## ")
    rows = rows_of(section) | dict(row(line, broken, today, load) for line in lines)
    table = HEAD + "".join(f"{line}\n" for line in rows.values())
    return f"{head.rstrip()}\n\n{table}" + (more + others if found else "")


def main():
    page, rows = Path(sys.argv[1]), Path(sys.argv[2])
    load = f"{os.getloadavg()[1]:.1f}"
    page.write_text(written(page.read_text(), rows.read_text().splitlines(), "--broken" in sys.argv, datetime.date.today(), load))


if __name__ == "__main__":
    main()
