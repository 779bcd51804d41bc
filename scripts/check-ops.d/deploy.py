"""Runs scripts/deploy and scripts/blue-green against a fake kubectl that records its commands and fails at a chosen one. Checks which objects
are changed, in which order, and which are rolled back.

usage: deploy.py KUSTOMIZE
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import ROOT, SERVICES, check, finish

# Responds to the queries of the scripts; `$FAILS` is a part of the command that fails, or `the Job`.
KUBECTL = """#!/bin/bash
printf '%s\\n' "$*" >>"$TOLD"
case " $* " in
*"$FAILS"*) exit 1 ;;
*' get service feed '*) printf '%s' "$COLOUR" ;;
*' get job topics '*) if [ "$FAILS" = 'the Job' ]; then printf 'FailureTarget Failed'; else printf 'SuccessCriteriaMet Complete'; fi ;;
*' get deployment '*annotations*) cat "$REVISIONS/$5" 2>/dev/null || echo 3 ;;
*' get configmap config-source '*) printf 'kind: ConfigMap\\nmetadata:\\n  name: config-source\\n  resourceVersion: "7"\\n' ;;
*' apply --filename '*config-source-before*) grep -c resourceVersion "$5" >>"$TOLD" ;;
*' apply --filename '*name=config*) echo 4 >"$REVISIONS/config" ;;
*' apply --filename '*'name in (auth,notice)'*) for service in auth notice; do echo 4 >"$REVISIONS/$service"; done ;;
*' apply --filename '*name!=config*) for service in auth feed dm notice; do echo 4 >"$REVISIONS/$service"; done ;;
*' apply --filename '*',app.kubernetes.io/name='*) last=${!#} && echo 4 >"$REVISIONS/${last##*name=}" ;;
esac
"""
# Has the images of the tags in $KNOWN, and builds others.
DOCKER = """#!/bin/bash
printf '%s\\n' "$*" >>"$TOLD"
case "$*" in
'buildx imagetools inspect '*) [ "$KNOWN" = "${!#}" ] && printf 'sha256:%064d' 1 ;;
'buildx build '*)
    while [ "$1" != --metadata-file ]; do shift; done
    printf '{ "containerimage.digest": "sha256:%064d" }\\n' 2 >"$2"
    ;;
esac
"""
FOLLOWERS = [name for name in SERVICES if name != "config"]


def play(kustomize, *command, fails="nothing", colour=""):
    """Returns the exit status, the recorded commands of kubectl, and standard error."""
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
    """Returns the index of the first command that contains the piece, or the number of commands."""
    return next((number for number, line in enumerate(told) if piece in line), len(told))


def undone(told):
    return {line.split("deployment/")[1].split()[0] for line in told if "rollout undo" in line}


def steps(kustomize):
    """The steps of a roll-out one by one, as the pipeline calls them: each does its part alone, and a rollback undoes what was changed."""
    with tempfile.TemporaryDirectory() as work:
        state = ("--state", f"{work}/state")
        step = lambda name, *more, **how: play(kustomize, "deploy", name, "production", *more, *state, **how)
        status, told, said = step("config")
        check(status != 0 and "deploy start" in said and not told, f"deploy config: without a start it says {said}")
        status, told, said = step("start")
        check(status == 0 and not any(word in line for line in told for word in (" apply ", "rollout")), f"deploy start: changes something: {said}{told}")
        status, told, said = step("rollback")
        check(status == 0 and not undone(told), f"deploy rollback: undoes {undone(told)} before anything was changed")
        status, told, said = step("engines")
        check(status == 0 and first(told, "component!=service") < len(told) and first(told, "component=service") == len(told), f"deploy engines: {said}{told}")
        status, told, said = step("config")
        applied = [line for line in told if " apply " in line]
        check(status == 0 and len(applied) == 1 and "name=config" in applied[0] and first(told, "rollout status deployment/config") < len(told), f"deploy config: {said}{told}")
        status, told, said = step("settings")
        asked = {line.split("deployment/")[1].split()[0] for line in told if "--print-settings" in line}
        check(status == 0 and asked == set(FOLLOWERS) and not any(" apply " in line for line in told), f"deploy settings: asks {asked}: {said}")
        for name in ("auth", "feed"):
            status, told, said = step("service", name, fails="rollout status deployment/feed")
            applied = [line for line in told if " apply " in line]
            check((status == 0) == (name == "auth") and len(applied) == 1 and applied[0].endswith(f"name={name}"), f"deploy service {name}: {said}{applied}")
        status, told, said = step("service", "config")
        check(status != 0 and not told, f"deploy service: changes config: {told}")
        status, told, said = step("first", "--first", "auth,notice")
        applied, waited = [line for line in told if " apply " in line], {line.split("deployment/")[1].split()[0] for line in told if "rollout status" in line}
        check(status == 0 and len(applied) == 1 and applied[0].endswith("name in (auth,notice)") and waited == {"auth", "notice"}, f"deploy first: {said}{told}")
        status, told, said = step("first", "--first", "auth,notice", fails="rollout status deployment/notice")
        check(status != 0 and "not ready" in said, f"deploy first: succeeds although notice is not ready: {said}")
        status, told, said = step("first")
        check(status != 0 and "--first" in said and not told, f"deploy first: without names it says {said}{told}")
        # In the fake cluster, revisions of one call are not those of the next: all say 3.
        (Path(work) / "state/before").write_text("config=2\nauth=2\nfeed=2\ndm=2\nnotice=2\n")
        status, told, said = step("rollback")
        check(status == 0 and undone(told) == {"config", "auth", "feed", "notice"}, f"deploy rollback: undoes {sorted(undone(told))}, changed was all but dm: {said}")
        check(all("--to-revision=2" in line for line in told if "rollout undo" in line) and any("config-source-before" in line for line in told), f"deploy rollback: {told}")
        status, told, said = step("smoke", "--demo", "https://fleet.example.com")
        check(status == 0 and told == ["fleet demo --url https://fleet.example.com"], f"deploy smoke: {said}{told}")
        status, told, said = step("smoke")
        check(status != 0 and "--demo" in said, f"deploy smoke: without an address it says {said}")


def images():
    """An image whose sources have a tag in the registry is not built again."""
    with tempfile.TemporaryDirectory() as work:
        folder, registry = Path(work), "registry.example.com/sosohappy"
        (folder / "docker").write_text(DOCKER)
        (folder / "docker").chmod(0o755)
        key = subprocess.run([ROOT / "scripts/image-sources", "key", "feed"], text=True, capture_output=True)
        kept = f"{registry}/feed:sources-{key.stdout.strip()}"

        def image(*options, known=""):
            (folder / "told").write_text("")
            environment = os.environ | {"PATH": f"{work}:{os.environ['PATH']}", "TOLD": f"{work}/told", "KNOWN": known}
            ended = subprocess.run([ROOT / "scripts/deploy", "image", registry, "7", "feed", *options], env=environment, text=True, capture_output=True)
            return ended.stdout, [line for line in (folder / "told").read_text().splitlines() if "buildx build" in line], ended.stderr

        digest = lambda number: f"feed={registry}/feed@sha256:{number:064d}\n"
        said, built, errors = image()
        check(said == digest(2) and len(built) == 1 and f"--tag {registry}/feed:7" in built[0], f"deploy image: {said}{errors}{built}")
        if key.returncode:
            # A developer's tree: whatever is in it is built.
            check(f"feed:sources-" not in built[0], f"deploy image: a tree that is not committed gets the tag of its commit: {built}")
            said, built, errors = image(known=kept)
            check(len(built) == 1, "deploy image: a tree that is not committed is not built")
            return
        check(f"--tag {kept} " in built[0], f"deploy image: without the tag of its sources: {built}")
        said, built, errors = image(known=kept)
        check(said == digest(1) and not built, f"deploy image: built although the registry has {kept}: {said}{errors}")
        said, built, errors = image(known=f"{registry}/feed:sources-0")
        check(said == digest(2) and len(built) == 1, f"deploy image: not built although the sources have changed: {said}{errors}")
        said, built, errors = image("--rebuild", known=kept)
        check(said == digest(2) and len(built) == 1, f"deploy image: --rebuild does not build: {said}{errors}")


def pushed():
    """Digests are committed and pushed once, and nothing else with them."""
    with tempfile.TemporaryDirectory() as work:
        origin, clone, images = Path(work) / "origin", Path(work) / "clone", Path(work) / "images"
        git = lambda *arguments: subprocess.run(["git", "-c", "user.name=check", "-c", "user.email=check@example.com", "-c", "commit.gpgsign=false", *arguments], cwd=clone, check=True, text=True, capture_output=True).stdout
        for path in ("scripts/deploy", "scripts/lib/common.sh", "scripts/lib/certificates.sh", "scripts/lib/deploy.sh", "k8s/overlays/staging/kustomization.yaml", "k8s/argocd/images/staging/kustomization.yaml"):
            (clone / path).parent.mkdir(parents=True, exist_ok=True)
            (clone / path).write_bytes((ROOT / path).read_bytes())
            (clone / path).chmod((ROOT / path).stat().st_mode)
        git("init", "--quiet", "--bare", str(origin))
        git("init", "--quiet")
        git("remote", "add", "origin", str(origin))
        git("add", "--all")
        git("commit", "--quiet", "--message", "first")
        (clone / "scripts/lib/common.sh").write_text((ROOT / "scripts/lib/common.sh").read_text() + "# changed\n")
        for number in (1, 1, 2):
            images.write_text(f"feed=registry.example.com/sosohappy/feed@sha256:{number:064d}\n")
            ended = subprocess.run([clone / "scripts/deploy", "write-back", "staging", "--images", images, "--push", "staging"], text=True, capture_output=True)
            check(ended.returncode == 0, f"write-back --push: {ended.stderr}")
        found = subprocess.run(["git", "log", "--format=%s", "staging"], cwd=origin, text=True, capture_output=True).stdout.splitlines()
        check(found == ["deploy: images of staging"] * 2 + ["first"], f"write-back --push: the branch has {found}")
        files = subprocess.run(["git", "diff", "--name-only", "staging~2", "staging"], cwd=origin, text=True, capture_output=True).stdout.split()
        check(files == ["k8s/argocd/images/staging/kustomization.yaml"], f"write-back --push: pushes {files}")


def write_back(kustomize):
    """The component that Argo CD reads, with two digests: each image of the overlay that has one is deployed by it."""
    digests = {"feed": "a" * 64, "dm": "b" * 64}
    with tempfile.TemporaryDirectory() as work:
        images, component = Path(work) / "images", Path(work) / "component"
        images.write_text("".join(f"{name}=registry.example.com/sosohappy/{name}@sha256:{digest}\n" for name, digest in digests.items()))
        written = subprocess.run([ROOT / "scripts/deploy", "write-back", "production", "--images", images, "--dry-run"], text=True, capture_output=True)
        check(written.returncode == 0 and written.stdout.startswith("+ write k8s/argocd/images/production/kustomization.yaml:\n"), f"write-back: {written.stdout}{written.stderr}")
        for found in (written.stdout.partition("\n")[2], (ROOT / "k8s/argocd/images/production/kustomization.yaml").read_text()):
            component.mkdir(exist_ok=True)
            (component / "kustomization.yaml").write_text(found)
            overlay = os.path.relpath(ROOT / "k8s/overlays/dev", Path(work).resolve())
            (Path(work) / "kustomization.yaml").write_text(f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{overlay}]\ncomponents: [component]\n")
            built = subprocess.run([kustomize, "build", work], text=True, capture_output=True)
            check(built.returncode == 0, f"write-back: {built.stderr.strip()}")
            for name, digest in digests.items() if "sha256" in found else ():
                check(f"image: registry.example.com/sosohappy/{name}@sha256:{digest}" in built.stdout, f"write-back: the image of {name} is not set")
        images.write_text("feed=registry.example.com/sosohappy/feed:1\n")
        refused = subprocess.run([ROOT / "scripts/deploy", "write-back", "production", "--images", images, "--dry-run"], text=True, capture_output=True)
        check(refused.returncode != 0 and "has no digest" in refused.stderr, "write-back: a tag is taken for a digest")


def main():
    kustomize = sys.argv[1]
    deploy = lambda overlay="production", *more, **how: play(kustomize, "deploy", "apply", overlay, "--demo", "https://fleet.example.com", *more, **how)

    # Without an operator for Kafka a Job creates the topics.
    status, told, said = deploy("dev")
    engines = max(first(told, f"rollout status statefulset/{engine}") for engine in ("kafka", "mongodb", "mysql"))
    check(status == 0 and engines < first(told, "job topics") < first(told, "component=job") < first(told, "get job topics") < first(told, "name=config") < len(told), f"deploy: wrong order: {said}{told}")
    status, told, _ = deploy("dev", fails="the Job")
    check(status != 0 and not any("component=service" in line for line in told), "deploy: services are changed although the topics do not exist")
    check(first(told, "logs --selector job-name=topics") < len(told), "deploy: does not show why the Job has failed")

    # With Kafka outside: its topics, but no broker to wait for; and the balancer before the services.
    status, told, said = deploy("outside")
    ready = [first(told, piece) for piece in ("statefulset/mysql", "deployment/entry", "get job topics", "name=config")]
    check(status == 0 and ready == sorted(ready) and ready[-1] < len(told) == first(told, "statefulset/kafka"), f"deploy: wrong order with Kafka outside: {said}{told}")

    status, told, said = deploy()
    check(status == 0, f"deploy: {said}")
    waited, asked = first(told, "rollout status deployment/config"), first(told, "--print-settings")
    others = first(told, "name!=config")
    engines = max(first(told, f"rollout status statefulset/{engine}") for engine in ("mongodb", "mysql"))
    ready = [first(told, f"condition=Ready --timeout 10m {what}") for what in ("kafka/fleet", "kafkatopic --all", "kafkauser --all")]
    check(engines < ready[0] < ready[1] < ready[2] < first(told, "name=config") < waited < asked < others < len(told), f"deploy: wrong order: {told}")
    check({line.split("deployment/")[1].split()[0] for line in told[others:] if "rollout status" in line} == set(FOLLOWERS), "deploy: does not wait for every service")
    check(told[-1] == "fleet demo --url https://fleet.example.com", f"deploy: the last command is not the smoke test: {told[-1]}")
    check(not undone(told), f"deploy: rolls {undone(told)} back after a successful roll-out")

    for fails, back in (
        ("rollout status deployment/config", {"config"}),
        ("--print-settings", {"config"}),
        ("rollout status deployment/dm", {"config", *FOLLOWERS}),
        ("fleet demo", {"config", *FOLLOWERS}),
    ):
        status, told, said = deploy(fails=fails)
        check(status != 0 and undone(told) == back, f"deploy: when {fails} fails, it exits with {status} and rolls back {sorted(undone(told))}")
        check(all("--to-revision=3" in line for line in told if "rollout undo" in line), f"deploy: rolls back to a wrong revision: {told}")
        check(first(told, "name!=config") == len(told) or back != {"config"}, f"deploy: continues although {fails} failed")
        check(any("config-source-before" in line for line in told), f"deploy: keeps the new settings although {fails} failed")

    before = ("production", "--first", "auth,notice")
    status, told, said = deploy(*before)
    ready = max(first(told, f"rollout status deployment/{name}") for name in ("auth", "notice"))
    check(status == 0 and first(told, "--print-settings") < first(told, "name in (auth,notice)") < ready < first(told, "name!=config") < len(told), f"deploy --first: wrong order: {said}{told}")
    check(told[-1] == "fleet demo --url https://fleet.example.com", f"deploy --first: the last command is not the smoke test: {told[-1]}")
    status, told, said = deploy(*before, fails="rollout status deployment/notice")
    check(status != 0 and undone(told) == {"config", "auth", "notice"}, f"deploy --first: exits with {status} and rolls back {sorted(undone(told))}")
    check(first(told, "name!=config") == len(told), "deploy --first: continues although the first services failed")
    status, told, _ = deploy("production", "--first", "auth,mail")
    check(status != 0 and not told, f"deploy --first: takes an unknown service: {told}")

    for what in ("kafkatopic", "kafkauser"):
        status, told, _ = deploy(fails=f"10m {what}")
        check(status != 0 and not any("component=service" in line for line in told), f"deploy: services are changed although no {what} exists")
    status, told, _ = deploy(colour="blue")
    check(status != 0 and not any(" apply " in line for line in told), "deploy: changes a fleet with colours")

    steps(kustomize)
    images()
    write_back(kustomize)
    pushed()
    refused = subprocess.run([ROOT / "scripts/deploy", "write-back", "dev", "--images", "/dev/null"], text=True, capture_output=True)
    check(refused.returncode != 0 and "does not deploy" in refused.stderr, f"write-back: takes an overlay that Argo CD does not read: {refused.stderr}")

    status, told, said = play(kustomize, "blue-green", "switch", "production", colour="blue")
    moved = [line for line in told if "patch service" in line]
    check(status == 0 and len(moved) == len(SERVICES) and all('"green"' in line for line in moved), f"blue-green: {said}{moved}")
    status, told, _ = play(kustomize, "blue-green", "switch", "production", colour="blue", fails="rollout status deployment/notice-green")
    check(status != 0 and not any("patch service" in line for line in told), "blue-green: moves traffic to a colour that is not ready")
    status, told, _ = play(kustomize, "blue-green", "finish", "production", colour="green")
    gone = {line.split("deployment ")[1] for line in told if "delete" in line and " deployment " in line}
    check(status == 0 and gone == {f"{name}-blue {name}" for name in SERVICES}, f"blue-green: deletes {sorted(gone)}")
    finish("successful and failing roll-outs, whole and step by step, against a fake kubectl; images against a fake docker")


main()
