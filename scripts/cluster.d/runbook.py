"""Runs the commands of a runbook on the cluster of kubectl's current context: runbook.py RUNBOOK WORK REFERENCES PKI

Without WORK it only compares the runbook with EXCEPTIONS. WORK is a folder for files, REFERENCES the file with the images of the fleet, PKI a folder with
a certificate. Every command in backquotes that begins with one of PROGRAMS is run, in the order of the text, each after the commands of the first block
of the runbook and in a shell of its own. It must succeed; `grep` may find nothing.
"""

import re
import socket
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("kubectl ", "curl ", "fleet ", "scripts/")
# Seconds.
PATIENCE = 180

# What is not run on the node, by how the command begins, with the reason.
PRODUCTION = "an operator of production, which overlay dev does not have"
EXCEPTIONS = {
    "kubectl get hpa": "overlay dev has no autoscalers; the check `autoscale` makes its own",
    "kubectl get servicemonitor": PRODUCTION,
    "kubectl describe networkpolicy from-prometheus": PRODUCTION,
    "kubectl describe kafkauser": PRODUCTION,
    "kubectl describe certificate": PRODUCTION,
    "kubectl get orders,challenges": PRODUCTION,
    "kubectl logs POD --previous": "no container of the pod has ended",
    "kubectl port-forward pod/POD 9000:http": "runs until it is stopped; the first block of the runbook does the same",
    "scripts/deploy rollback": "the check `bad-image` undoes a roll-out",
    "scripts/blue-green rollback": "the check `blue-green` does it; the fleet has no colours here",
    "curl -X DELETE": "no canary is under way",
    "curl -X POST -H \"Authorization: Bearer $SOSOHAPPY_OPERATOR_TOKEN\" 'http://127.0.0.1:9000/actuator/busrefresh?canary=1'": "the settings have one version only",
    "fleet topics --acls": "the broker of overlay dev has no authorizer",
    "fleet grant-role": "needs an account of a person",
    "fleet connection-log": "overlay dev keeps no log of connections",
}

# What stands for the places that the reader fills in, in this order.
PLACES = (
    ("> POD.log", "> @work@/pod.log"),
    ("--cert=FILE --key=FILE", "--cert=@pki@/admin.crt --key=@pki@/admin.key"),
    ("127.0.0.1:9000", "127.0.0.1:@port@"),
    ("9000:http", "@port@:http"),
    ("--namespace sosohappy", "--namespace sosohappy-dev"),
    ("scripts/deploy apply production", "scripts/deploy apply dev --images @references@"),
    ("<service>", "feed"),
    ("POD", "$(pod)"),
    ("INSTANCE", "feed"),
    ("TOPIC", "noticeLike"),
)

# Commands before may have restarted services. `grep` succeeds when it finds nothing; curl waits for the port-forward, and fails with the answer; fleet runs
# in a pod, as the Job that makes the topics.
PRELUDE = r"""
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null' EXIT
kubectl --namespace sosohappy-dev rollout status deployment --selector app.kubernetes.io/component=service --timeout 120s >/dev/null
grep() { command grep "$@" || [ $? -eq 1 ]; }
pod() { kubectl get pods --selector app.kubernetes.io/name=feed --field-selector status.phase=Running --output 'jsonpath={.items[0].metadata.name}'; }
curl() {
    until (exec 3<>/dev/tcp/127.0.0.1/@port@) 2>/dev/null; do
        kill -0 "$!" || return
        sleep 0.1
    done
    command curl --silent --show-error --fail-with-body --max-time 30 "$@"
}
fleet() {
    local arguments='' argument status=0
    for argument in "$@"; do arguments+="${arguments:+, }\"$argument\""; done
    kubectl apply --filename - <<YAML
apiVersion: v1
kind: Pod
metadata: { name: runbook, labels: { app.kubernetes.io/name: topics } }
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: Never
  securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: RuntimeDefault } }
  containers:
    - name: fleet
      image: "$(sed -n 's/^fleet=//p' @references@)"
      imagePullPolicy: IfNotPresent
      args: [$arguments]
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
YAML
    kubectl wait --for 'jsonpath={.status.phase}=Succeeded' --timeout 90s pod/runbook || status=$?
    kubectl logs runbook
    kubectl delete pod runbook
    return "$status"
}
"""


def commands(text):
    """Returns each command once, with the number of its line."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        for command in re.findall(r"(?<!`)`([^`]+)`(?!`)", line):
            # An ellipsis stands for anything.
            if command.startswith(PROGRAMS) and "…" not in command:
                found.setdefault(command, number)
    return found


def exception(command):
    """Returns the beginning of the command that EXCEPTIONS has, or None."""
    return next((begin for begin in EXCEPTIONS if command.startswith(begin)), None)


def script(command, preamble, places):
    # The first block forwards a port to one service: config for what only config answers.
    answers = "config" if "/config-service/" in command or "/busrefresh" in command else "feed"
    text = preamble.replace("SERVICE", answers) + command.replace("SERVICE", "feed") + "\n"
    for what, instead in PLACES:
        text = text.replace(what, instead)
    text = PRELUDE + text
    for name, value in places.items():
        text = text.replace(f"@{name}@", value)
    return text


def main():
    runbook = Path(sys.argv[1])
    text = runbook.read_text()
    found = commands(text)
    unused = EXCEPTIONS.keys() - {exception(command) for command in found}
    if unused:
        sys.exit(f"{runbook}: no command begins with {sorted(unused)}")
    chosen = {command: number for command, number in found.items() if exception(command) is None}
    if len(sys.argv) == 2:
        print(f"{len(chosen)} commands run on a node, {len(found) - len(chosen)} are excepted")
        return
    preamble = re.search(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    places = {"work": sys.argv[2], "references": sys.argv[3], "pki": sys.argv[4], "port": port}
    failed = []
    for command, number in chosen.items():
        print(f"{number}: {command}", flush=True)
        shell = ["timeout", str(PATIENCE), "bash", "-c", script(command, preamble, places)]
        ended = subprocess.run(shell, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ended.returncode != 0:
            failed.append(f"{runbook}:{number}: {command}: status {ended.returncode}: {ended.stdout[-600:]}")
    if failed:
        sys.exit("\n".join(failed))
    print(f"{len(chosen)} commands of the runbook ran, {len(found) - len(chosen)} are excepted")


main()
