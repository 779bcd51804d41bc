"""Plays roll-outs by scripts/deploy and scripts/blue-green against a kubectl that only writes down what it is told, and fails where it is
told to: what is touched, in which order, and what is undone.

usage: deploy.py KUSTOMIZE
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, SERVICES, check, finish

# Answers what the scripts ask for; `$FAILS` is a piece of the command that is to fail.
KUBECTL = """#!/bin/bash
printf '%s\\n' "$*" >>"$TOLD"
case " $* " in
*"$FAILS"*) exit 1 ;;
*' get service feed '*) printf '%s' "$COLOUR" ;;
*' get deployment '*annotations*) cat "$REVISIONS/$5" 2>/dev/null || echo 3 ;;
*' get configmap config-source '*) printf 'kind: ConfigMap\\nmetadata:\\n  name: config-source\\n  resourceVersion: "7"\\n' ;;
*' apply --filename '*config-source-before*) grep -c resourceVersion "$5" >>"$TOLD" ;;
*' apply --filename '*name=config*) echo 4 >"$REVISIONS/config" ;;
*' apply --filename '*name!=config*) for service in auth feed dm notice; do echo 4 >"$REVISIONS/$service"; done ;;
esac
"""
FOLLOWERS = [name for name in SERVICES if name != "config"]


def play(kustomize, *command, fails="nothing", colour=""):
    """The status, and what kubectl was told, one line a command."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for name, text in (("kubectl", KUBECTL), ("fleet", "#!/bin/bash\nprintf 'fleet %s\\n' \"$*\" >>\"$TOLD\"\ncase \"fleet $*\" in *\"$FAILS\"*) exit 1 ;; esac\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "kustomize").symlink_to(Path(kustomize).resolve())
        (folder / "told").touch()
        (folder / "revisions").mkdir()
        environment = {key: value for key, value in os.environ.items() if key != "FLEET"}
        environment |= {"PATH": f"{work}:{os.environ['PATH']}", "TOLD": f"{work}/told", "REVISIONS": f"{work}/revisions", "FAILS": fails, "COLOUR": colour}
        ended = subprocess.run([ROOT / "scripts" / command[0], *command[1:]], env=environment, text=True, capture_output=True)
        return ended.returncode, (folder / "told").read_text().splitlines(), ended.stderr


def first(told, piece):
    """Where a command with this piece in it came first; beyond the end when it did not."""
    return next((number for number, line in enumerate(told) if piece in line), len(told))


def undone(told):
    return {line.split("deployment/")[1].split()[0] for line in told if "rollout undo" in line}


def main():
    kustomize = sys.argv[1]
    deploy = lambda overlay="production", **how: play(kustomize, "deploy", "apply", overlay, "--demo", "https://fleet.example.com", **how)

    # Without an operator for Kafka a Job makes the topics.
    status, told, said = deploy("dev")
    engines = max(first(told, f"rollout status statefulset/{engine}") for engine in ("kafka", "mongodb", "mysql"))
    check(status == 0 and engines < first(told, "delete --ignore-not-found --wait job topics") < first(told, "component=job") < first(told, "job/topics") < first(told, "name=config") < len(told), f"deploy: in another order: {said}{told}")
    status, told, _ = deploy("dev", fails="condition=complete")
    check(status != 0 and not any("component=service" in line for line in told), "deploy: services are touched though the topics are not there")

    status, told, said = deploy()
    check(status == 0, f"deploy: {said}")
    waited, asked = first(told, "rollout status deployment/config"), first(told, "--print-settings")
    others = first(told, "name!=config")
    engines = max(first(told, f"rollout status statefulset/{engine}") for engine in ("mongodb", "mysql"))
    ready = [first(told, f"condition=Ready --timeout 10m {what}") for what in ("kafka/fleet", "kafkatopic --all", "kafkauser --all")]
    check(engines < ready[0] < ready[1] < ready[2] < first(told, "name=config") < waited < asked < others < len(told), f"deploy: in another order: {told}")
    check({line.split("deployment/")[1].split()[0] for line in told[others:] if "rollout status" in line} == set(FOLLOWERS), "deploy: not everybody is waited for")
    check(told[-1] == "fleet demo --url https://fleet.example.com", f"deploy: no smoke test, but {told[-1]}")
    check(not undone(told), f"deploy: undoes {undone(told)} of a good roll-out")

    for fails, back in (
        ("rollout status deployment/config", {"config"}),
        ("--print-settings", {"config"}),
        ("rollout status deployment/dm", {"config", *FOLLOWERS}),
        ("fleet demo", {"config", *FOLLOWERS}),
    ):
        status, told, said = deploy(fails=fails)
        check(status != 0 and undone(told) == back, f"deploy: with {fails} failing it ends with {status} and undoes {sorted(undone(told))}")
        check(all("--to-revision=3" in line for line in told if "rollout undo" in line), f"deploy: goes back to another revision: {told}")
        check(first(told, "name!=config") == len(told) or back != {"config"}, f"deploy: with {fails} failing it goes on")
        check(any("config-source-before" in line for line in told), f"deploy: with {fails} failing the new settings stay")

    for what in ("kafkatopic", "kafkauser"):
        status, told, _ = deploy(fails=f"10m {what}")
        check(status != 0 and not any("component=service" in line for line in told), f"deploy: services are touched though no {what} is there")
    status, told, _ = deploy(colour="blue")
    check(status != 0 and not any(" apply " in line for line in told), "deploy: a fleet with colours is rolled out")

    status, told, said = play(kustomize, "blue-green", "switch", "production", colour="blue")
    moved = [line for line in told if "patch service" in line]
    check(status == 0 and len(moved) == len(SERVICES) and all('"green"' in line for line in moved), f"blue-green: {said}{moved}")
    status, told, _ = play(kustomize, "blue-green", "switch", "production", colour="blue", fails="rollout status deployment/notice-green")
    check(status != 0 and not any("patch service" in line for line in told), "blue-green: traffic is moved to what is not ready")
    status, told, _ = play(kustomize, "blue-green", "finish", "production", colour="green")
    gone = {line.split("deployment ")[1] for line in told if "delete" in line and " deployment " in line}
    check(status == 0 and gone == {f"{name}-blue {name}" for name in SERVICES}, f"blue-green: takes away {sorted(gone)}")
    finish("a good roll-out, and what fails in it, played against a kubectl of straw")


main()
