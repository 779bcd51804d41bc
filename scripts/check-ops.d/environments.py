"""Runs each service's program with the environment from docker/compose.yaml and from each overlay of k8s/, until it has read its settings:
the program must know and accept them.

usage: environments.py KUSTOMIZE BINARIES    the folder of sosohappy-config and the others
"""

import os
import subprocess
import sys
from pathlib import Path

from common import ROOT, SERVICES, check, finish, load, parse, run

# The key of each referenced Secret, and a value in the form that `scripts/deploy secrets` writes.
SECRETS = {
    "service-token": "0123456789abcdef0123456789abcdef",
    "operator-token": "fedcba9876543210fedcba9876543210",
    "auth-database": "mysql://auth:secret@mysql:3306/auth",
    "feed-database": "mysql://feed:secret@mysql:3306/feed",
    "dm-messages": "mongodb://dm:secret@mongodb:27017/dm?replicaSet=sosohappy&authSource=admin",
    # Of a KafkaUser; Strimzi creates it.
    "password": "32-letters-that-Strimzi-has-made-up",
    # Of overlay `outside`, by service.
    "kafka-accounts": "64-letters-that-scripts/deploy-has-made-up",
    "notice-inbox": "mongodb://notice:secret@mongodb:27017/notice?replicaSet=sosohappy&authSource=admin",
}
# Of one machine, where the app's claim needs no proof. Elsewhere a client could sign in as any person: docs/runbook.md, "Sign-in without proof".
WITHOUT_PROOF = {"compose", "dev"}
REQUIRED = {"SOSOHAPPY_AUTH__SIGN_IN__PROOF": "id-token"}
# Operators must set them; without them the start fails.
LEFT_OPEN = {f"SOSOHAPPY_AUTH__SIGN_IN__{provider}__AUDIENCE": "app" for provider in ("APPLE", "GOOGLE", "KAKAO")}


def of_compose():
    for name in SERVICES:
        environment = load(ROOT / "docker/compose.yaml")[0]["services"][name]["environment"]
        yield "compose", name, {key: value.split("${")[0] + SECRETS["service-token"] + value.partition("}")[2] if "${" in value else value for key, value in environment.items()}


def of_overlay(kustomize, overlay):
    objects = parse(run(kustomize, "build", str(overlay)))
    maps = {item["metadata"]["name"]: item.get("data", {}) for item in objects if item["kind"] == "ConfigMap"}
    for item in objects:
        if item["kind"] == "Deployment" and item["metadata"]["name"] in SERVICES:
            server, environment = item["spec"]["template"]["spec"]["containers"][0], {}
            for source in server["envFrom"]:
                environment |= maps.get(source.get("configMapRef", {}).get("name"), {})
            for variable in server["env"]:
                secret = variable.get("valueFrom", {}).get("secretKeyRef", {})
                environment[variable["name"]] = variable.get("value") or SECRETS.get(secret["name"]) or SECRETS[secret["key"]]
            yield overlay.name, item["metadata"]["name"], environment


def printed(program, environment):
    # Without the config service: only this layer is checked.
    given = {key: value for key, value in environment.items() if not key.endswith("__CONFIG__URL")}
    ended = subprocess.run([program, "--print-settings"], env={"PATH": os.environ["PATH"], **given}, text=True, capture_output=True, timeout=60)
    return ended.returncode, ended.stdout, ended.stderr.strip()


def main():
    kustomize, binaries = sys.argv[1], Path(sys.argv[2])
    tried = 0
    for where, name, environment in [*of_compose(), *(each for overlay in sorted((ROOT / "k8s/overlays").iterdir()) for each in of_overlay(kustomize, overlay))]:
        program = binaries / f"sosohappy-{name}"
        if name == "auth" and where not in WITHOUT_PROOF:
            check(environment.items() >= REQUIRED.items(), f"{where}: {name} has not {REQUIRED}")
            status, _, said = printed(program, environment)
            check(status != 0 and "audience" in said, f"{where}: {name} starts without a setting that operators must choose: {said}")
            environment |= LEFT_OPEN
        status, text, said = printed(program, environment)
        check(status == 0, f"{where}: {name} refuses its environment: {said}")
        check(not any(value in text for value in SECRETS.values()), f"{where}: {name} prints a secret")
        tried += 1
    finish(f"{tried} environments accepted by their programs")


main()
