"""Measures starts of the fleet in the files of its image: start.py IMAGE ROOT DATA STARTS

IMAGE is what `buildah inspect` says of the image, ROOT its files. Runs in namespaces of its own for mounts, processes and the network: the ports of the fleet are free, and
nothing is left mounted. Prints the milliseconds from exec to ready: of a start on the empty folder DATA, then of each of STARTS after `kill -9`.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

READY = "SoSoHappy is ready"
# Seconds within which the fleet must be ready.
PATIENCE = 120


def start(command, environment, seen):
    """Starts the fleet, ends it when it is ready, and returns the milliseconds from exec to ready, or None."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    took = None
    for line in process.stdout:
        seen.append(line)
        if READY in line:
            took = (time.monotonic() - began) * 1000
            break
    timer.cancel()
    process.kill()
    process.wait()
    return took


def main():
    config = json.loads(Path(sys.argv[1]).read_text())["OCIv1"]["config"]
    root, data, starts = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    user = config["User"]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    inside = root / "data"
    inside.mkdir()
    subprocess.run(["chown", user, data], check=True)
    subprocess.run(["mount", "--bind", data, inside], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    subprocess.run(["mount", "--rbind", "/dev", root / "dev"], check=True)
    environment = dict(variable.split("=", 1) for variable in config["Env"])
    command = ["/usr/sbin/chroot", f"--userspec={user}", root, *config["Entrypoint"]]
    print(subprocess.run([*command, "--version"], env=environment, check=True, text=True, capture_output=True).stdout.strip(), file=sys.stderr)
    for _ in range(1 + starts):
        seen = []
        took = start([*command, "run", "--data", "/data"], environment, seen)
        if took is None:
            sys.exit("".join(["the fleet is not ready:\n", *seen[-40:]]))
        print(f"{took:.2f}")


if __name__ == "__main__":
    main()
