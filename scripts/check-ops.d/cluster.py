"""Compares the checks of scripts/cluster and scripts/compose with their faults, their documents and the runbook, and tries how their figures are written. Needs neither of them."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, check, finish

CLUSTER = ROOT / "scripts/cluster.d"
sys.path.append(str(CLUSTER))

import figures


def checks(script):
    """Returns the number of the script's checks, each of which has a fault, a place in the help and a line in its document."""
    folder, document = ROOT / f"scripts/{script}.d", f"docs/{script}.md"
    text, faults = (folder / "checks.sh").read_text(), (folder / "faults.sh").read_text()
    names = re.search(r"^CHECKS=\((.*)\)$", text, re.MULTILINE)[1].split()
    functions = [name.replace("_", "-") for name in re.findall(r"^check_(\w+)\(\)", text, re.MULTILINE)]
    check(sorted(functions) == sorted(names), f"{script}: the checks are {sorted(functions)}, the list is {sorted(names)}")
    broken = [name.replace("_", "-") for name in re.findall(r"^break_(\w+)\(\)", faults, re.MULTILINE)]
    check(sorted(broken) == sorted(names), f"{script}: faults of {sorted(broken)}, checks {sorted(names)}")
    says = dict(re.findall(r"^    \[([a-z-]+)\]=(['\"].*['\"])$", faults, re.MULTILINE))
    check(says.keys() == set(names), f"{script}: what a check says of its fault is there for {sorted(says)}")
    for name in names:
        check(text.count(f"faulty {name}\n") == 1, f"{script}: the check {name} does not apply its fault once")
    shown = re.search(r"all or by name: (.*?)\. A check", (ROOT / "scripts" / script).read_text(), re.DOTALL)[1]
    check(re.findall(r"[a-z-]+", shown) == names, f"{script}: the help names {shown}")
    documented = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / document).read_text(), re.MULTILINE)
    check(documented == names, f"{document}: has the checks {documented}, there are {names}")
    return len(names)


def written():
    """Tries how a page is written: the first time, again with another check, and beside other sections."""
    first = figures.written("# P\n\ntext\n", ["restart\t0\t58\tall five|200 calls, 1 failed"], False, "D", "1.0")
    line = "| restart | passed after 58 s, D, load 1.0 | all five; 200 calls, 1 failed; 99.50 % answered |\n"
    check(first == f"# P\n\ntext\n\n{figures.HEAD}{line}", f"cluster: the first figures give {first}")
    again = figures.written(first + "\n## Other\n\nkept\n", ["edges\t1\t20\t", "restart\t0\t9\tall five"], False, "E", "2.0")
    lines = "| restart | passed after 9 s, E, load 2.0 | all five |\n| edges | **failed** after 20 s, E, load 2.0 |  |\n"
    check(again == f"# P\n\ntext\n\n{figures.HEAD}{lines}\n## Other\n\nkept\n", f"cluster: the next figures give {again}")
    faulty = figures.written(first, ["restart\t0\t9\tfails"], True, "E", "2.0")
    check(faulty.endswith(line + "| restart, with its fault | found after 9 s, E, load 2.0 | fails |\n"), f"cluster: a check with its fault gives {faulty}")


# Three checks in place of the real ones, and a fleet that comes back.
TRIAL = """
set -euo pipefail
. scripts/lib/common.sh
CLUSTER_D=$PWD/scripts/cluster.d PATIENCE=1 DATA=$1 PROGRAMS_LINK=$1
mkdir "$DATA/logs" && touch "$DATA/fleet"
. scripts/cluster.d/checks.sh
. scripts/cluster.d/faults.sh
CHECKS=(good bad worse)
SAYS=([good]='found it' [bad]='found it' [worse]='found it')
kube() { :; }
restored() { say "restored after $1"; }
check_good() { faulty good; sleep 60 >"$WORK/nothing" 2>&1 & begun "$!"; say "$!" >>"$DATA/started"; seen "a figure"; }
check_bad() { false; say "goes on after a failure"; }
check_worse() { fail "another reason"; }
break_good() { fail "found it"; }
check "${@:2}"
"""


def sleeps(pid):
    """Returns whether the process is the `sleep` of the trial, and lives."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "sleep" in status and "zombie" not in status


def trial(*options):
    """Returns the status and the output of a run of three checks, of which the first alone passes."""
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(["bash", "-c", TRIAL, "trial", folder, *options], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=50)
        started = Path(folder) / "started"
        pids = started.read_text().split() if started.exists() else []
        # A signal that was sent is not yet a process that has ended.
        deadline = time.monotonic() + 10
        while any(map(sleeps, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        check(not any(map(sleeps, pids)), "cluster: a check leaves what it has started")
        return ended.returncode, ended.stdout


def runs():
    status, said = trial()
    check(status == 1 and said.splitlines()[-1] == "1 passed, 2 failed", f"cluster: one check of three that passes gives {status}: {said}")
    check("goes on after a failure" not in said, "cluster: a check goes on after a command that has failed")
    check("== good\na figure\n== passed" in said and "another reason" in said, f"cluster: three checks print {said}")
    status, said = trial("--broken")
    check(status == 1 and said.splitlines()[-1] == "1 passed, 2 failed", f"cluster: one fault of three that is found gives {status}: {said}")
    check("the check failed, and not by 'found it'" in said, f"cluster: a check that fails for another reason prints {said}")
    status, said = trial("good")
    check(status == 0 and said.splitlines()[-1] == "1 passed, 0 failed", f"cluster: a check that passes gives {status}: {said}")


def kind():
    """Plays `up --kind` twice, `demo` and `down` with programs that record their commands, in place of docker, kind and kubectl."""
    with tempfile.TemporaryDirectory() as work:
        folder, told = Path(work), Path(work) / "told"
        for name in ("docker", "kind", "kubectl"):
            answer = 'case "$*" in *"--kubeconfig "*) touch "$6" ;; esac' if name == "kind" else ""
            (folder / name).write_text(f"#!/bin/bash\nprintf '{name} %s\\n' \"$*\" >>{told}\n{answer}\ncase \"$*\" in *'get job topics'*) printf Complete ;; esac\n")
            (folder / name).chmod(0o755)
        environment = os.environ | {"PATH": f"{work}:{os.environ['PATH']}", "SOSOHAPPY_CLUSTER_DIR": f"{work}/cluster", "SOSOHAPPY_CACHE": f"{work}/cache"}

        def play(*command):
            told.write_text("")
            ended = subprocess.run([ROOT / "scripts/cluster", *command], env=environment, text=True, capture_output=True)
            check(ended.returncode == 0, f"cluster {' '.join(command)}: {ended.stdout}{ended.stderr}")
            return told.read_text().splitlines()

        first, again = play("up", "--kind"), play("up", "--kind")
        at = lambda lines, piece: next((number for number, line in enumerate(lines) if piece in line), -1)
        order = [at(first, piece) for piece in ("kind create cluster", "docker build", "kind load docker-image", "rollout status deployment/config")]
        check(-1 < order[0] and order == sorted(order), f"cluster: the first time with kind: {first}")
        check(sum("docker build" in line for line in first) == 6, "cluster: kind gets other images than six")
        check(at(first, "rollout restart") == -1 and at(again, "kind create") == -1 and at(again, "rollout restart") > at(again, "kind load"), f"cluster: the second time with kind: {again}")
        check(at(play("demo"), "docker run --rm --network container:sosohappy-control-plane sosohappy/fleet:latest demo") >= 0, "cluster: the demo does not run beside kind")
        check(at(play("down"), "kind delete cluster --name sosohappy") >= 0 and not (folder / "cluster/kind.kubeconfig").exists(), "cluster: kind is not deleted")


def main():
    names = checks("cluster") + checks("compose")
    runs()
    kind()
    written()
    compared = subprocess.run([sys.executable, CLUSTER / "runbook.py", ROOT / "docs/runbook.md"], text=True, capture_output=True)
    check(compared.returncode == 0, f"runbook.md: {compared.stderr.strip()}")
    finish(f"{names} checks, each with a fault; runbook.md: {compared.stdout.strip()}")


main()
