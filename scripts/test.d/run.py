"""Runs the tests that `cargo test --no-run` has built, `AT_ONCE` executables at once: most tests wait for an engine or for a time, and the
longest test of an executable leaves the machine idle.

usage: run.py MESSAGES [ARGUMENT…]    the file of what Cargo has written with --message-format=json, and the arguments of each executable

Prints the output of an executable when it has ended, with its seconds. The status is 1 if one has failed or was ended after `LIMIT`.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Executables. Each runs as many tests at once as RUST_TEST_THREADS says: one for each processor.
AT_ONCE = 2
# Seconds of one executable. A test that hangs fails here, and the others are still run.
LIMIT = 1200
# Has the longest tests. They begin first, so that others are run beside each of them.
FIRST = "fleet"

# Those that run.
running = set()


def executables(messages):
    """Returns name, path and the package's folder of each, in the order in which they are started."""
    found = []
    for line in messages.open():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            folder = Path(message["manifest_path"]).parent
            found.append((f"{folder.name} {message['target']['name']}", message["executable"], folder))
    return sorted(found, key=lambda row: row[2].name != FIRST)


def end(process):
    """Kills an executable, and the processes that its tests have started and that are left: they would slow down other tests."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(arguments, name, executable, folder):
    """Runs one as `cargo test` does, and returns the name if it has failed."""
    began = time.monotonic()
    # A file: processes that are left would keep a pipe open.
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen([executable, *arguments], cwd=folder, env={**os.environ, "CARGO_MANIFEST_DIR": str(folder)},
                                   stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        running.add(process)
        try:
            status = process.wait(LIMIT)
            failure = f"status {status}" if status else None
        except subprocess.TimeoutExpired:
            failure = f"not within {LIMIT} s"
        end(process)
        process.wait()
        running.discard(process)
        output.seek(0)
        text = output.read()
    print(f"\n== {name}: {failure or 'passed'} after {time.monotonic() - began:.0f} s\n{text}", flush=True)
    return f"{name}: {failure}" if failure else None


def main():
    # As Ctrl-C: the tests have sessions of their own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    messages, *arguments = sys.argv[1:]
    found = executables(Path(messages))
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        failed = [failure for failure in pool.map(lambda row: run(arguments, *row), found) if failure]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            end(process)
    print(f"== {len(found)} executables, {len(failed)} failed")
    sys.exit("\n".join(f"failed: {failure}" for failure in failed) or (0 if found else "failed: no test was built"))


if __name__ == "__main__":
    main()
