"""Prints the figures of the images and writes them to a page: figures.py PAGE ROWS STARTS BASES SECONDS

A line of ROWS is an image: its name, and the bytes of its files, of its program, and of its program compressed, with tabs between them. A line of STARTS is
the milliseconds of a start, the first of them on an empty folder. A line of BASES is a base image and `made` or `pulled`. SECONDS is the time of the
last build that compiled, and may be missing. The section of the page is made anew.
"""

import datetime
import os
import statistics
import subprocess
import sys
from pathlib import Path

HEADING = "## Images"


def size(count):
    return f"{int(count) / (1 << 20):.1f} MiB"


def section(rows, starts, bases, seconds, commit, today, load):
    """Returns the lines of the section."""
    origins = {
        "made": "made on this machine of Debian's packages, because it could not be pulled",
        "pulled": "pulled",
    }
    lines = [
        HEADING,
        "",
        "Written by `scripts/dockerfile measure`: `docker/Dockerfile`, unchanged, built with buildah. Sizes are of all files of an image, not compressed; its base is all but",
        f"the program. Base images: {'; '.join(f'`{name}`, {origins[origin]}' for name, origin in bases)}.",
        "",
        "| image | size | base | program | program, compressed (gzip) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, whole, program, compressed in rows:
        lines.append(f"| {name} | {size(whole)} | {size(int(whole) - int(program))} | {size(program)} | {size(compressed)} |")
    first, *others = starts
    lines += [
        "",
        f"The fleet of its image, with its files, its user and its environment, on embedded engines, from exec to all ready: {first:.2f} ms on an empty data folder, then"
        f" {statistics.median(others):.2f} ms after `kill -9` ({min(others):.2f} to {max(others):.2f} in {len(others)} starts).",
        "",
    ]
    built = f"The build of all stages took {int(seconds) / 60:.1f} minutes on {os.cpu_count()} processors. " if seconds else ""
    lines.append(f"{built}Measured {today}, commit {commit}, load {load}.")
    return lines


def written(page, lines):
    """Returns the page with this section in place of the one before, or at its end."""
    head, found, rest = page.partition(f"\n{HEADING}\n")
    # A section ends where the next one begins.
    _, more, others = rest.partition("\n## ")
    text = "\n".join(lines)
    return f"{head.rstrip()}\n\n{text}\n" + (more + others if found else "")


def main():
    page, rows, starts, bases, seconds = (Path(argument) for argument in sys.argv[1:])
    commit = subprocess.run(["git", "rev-parse", "--short=8", "HEAD"], check=True, text=True, capture_output=True).stdout.strip()
    lines = section(
        [line.split("\t") for line in rows.read_text().splitlines()],
        [float(line) for line in starts.read_text().splitlines()],
        [line.split("\t") for line in bases.read_text().splitlines()],
        seconds.read_text().strip() if seconds.exists() else "",
        commit,
        datetime.date.today(),
        f"{os.getloadavg()[1]:.1f}",
    )
    print("\n".join(lines[4:]))
    page.write_text(written(page.read_text(), lines))


if __name__ == "__main__":
    main()
