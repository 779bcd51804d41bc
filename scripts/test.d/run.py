"""Runs the tests that `cargo test --no-run` has built, one executable for each processor at once: most tests wait for an engine or for a
time, and the longest test of an executable leaves the machine idle.

usage: run.py MESSAGES    the file of what Cargo has written with --message-format=json

Prints the output of an executable when it has ended, with its seconds. The status is 1 if one has failed or was ended after `LIMIT`.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Seconds of one executable. A test that hangs fails here, and the others are still run.
LIMIT = 1200
# Has the longest tests. They begin first, so that others are run beside each of them.
FIRST = "fleet"


def executables(messages):
    """Returns name, path and the package's folder of each, in the order in which they are started."""
    found = []
    for line in messages.open():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            folder = Path(message["manifest_path"]).parent
            found.append((f"{folder.name} {message['target']['name']}", message["executable"], folder))
    return sorted(found, key=lambda row: row[2].name != FIRST)


def run(name, executable, folder):
    """Runs one as `cargo test` does, and returns the name if it has failed."""
    began = time.monotonic()
    try:
        done = subprocess.run([executable], cwd=folder, env={**os.environ, "CARGO_MANIFEST_DIR": str(folder)}, text=True, errors="replace", timeout=LIMIT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, failure = done.stdout, f"status {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired as error:
        output, failure = (error.stdout or b"").decode(errors="replace"), f"not within {LIMIT} s"
    print(f"\n== {name}: {failure or 'passed'} after {time.monotonic() - began:.0f} s\n{output}", flush=True)
    return f"{name}: {failure}" if failure else None


def main():
    found = executables(Path(sys.argv[1]))
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        failed = [failure for failure in pool.map(lambda row: run(*row), found) if failure]
    finally:
        # Ctrl-C starts no more of them.
        pool.shutdown(cancel_futures=True)
    print(f"== {len(found)} executables, {len(failed)} failed")
    sys.exit("\n".join(failed) or (0 if found else "no test was built"))


if __name__ == "__main__":
    main()
