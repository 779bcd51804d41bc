"""Runs two executables with scripts/test.d/run.py, as `make test` runs those of Cargo: one that prints its arguments, and one that fails."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, check, finish


def main():
    with tempfile.TemporaryDirectory() as folder:
        messages = []
        for name, script in [("prints", 'printf "<%s>" "$@"'), ("fails", "exit 3")]:
            executable = Path(folder, name)
            executable.write_text(f"#!/bin/sh\n{script}\n")
            executable.chmod(0o755)
            messages.append(json.dumps({
                "reason": "compiler-artifact", "profile": {"test": True}, "executable": str(executable),
                "manifest_path": f"{folder}/Cargo.toml", "target": {"name": name},
            }))
        file = Path(folder, "messages")
        file.write_text("\n".join(messages))
        runner = [sys.executable, ROOT / "scripts/test.d/run.py", file]
        ended = subprocess.run([*runner, "--skip", "a name"], capture_output=True, text=True)
    check("<--skip><a name>" in ended.stdout, f"the arguments do not reach the executables: {ended.stdout}")
    check(ended.returncode == 1 and "fails: status 3" in ended.stderr, f"a failure is not reported: {ended.stderr}")
    finish("arguments reach the tests, and a failure is reported")


if __name__ == "__main__":
    main()
