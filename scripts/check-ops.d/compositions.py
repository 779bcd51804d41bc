"""Builds every composition of k8s/: the overlays, each component over one of them, and standalone kustomizations."""

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import ROOT, check, load, parse

K8S = ROOT / "k8s"


def build(kustomize, folder):
    built = subprocess.run([kustomize, "build", folder], text=True, capture_output=True)
    return parse(built.stdout) if check(built.returncode == 0, f"{folder}: {built.stderr.strip()}") else []


# Components that cannot be added to an overlay, and why. Others are tried over each overlay that does not include them.
NO_KAFKA = "no budget and no StatefulSet of Kafka to replace"
TWO_WAYS = "the gateway and the Ingress have the same network policy"
APART = {
    ("dev", "strimzi"): NO_KAFKA,
    ("outside", "strimzi"): NO_KAFKA,
    ("production", "ingress"): TWO_WAYS,
    ("staging", "ingress"): TWO_WAYS,
    ("outside", "istio"): "HAProxy is not in the mesh, which lets no stranger in",
}


def parts(folder):
    """Returns the folders of the components in an overlay, also of those in its components and in the overlay that it is made of."""
    found = set()
    for line in load(folder / "kustomization.yaml"):
        for path in [*line.get("components", []), *(path for path in line.get("resources", []) if (folder / path / "kustomization.yaml").exists())]:
            part = (folder / path).resolve()
            found |= {part} | parts(part)
    return found


def compositions(kustomize):
    """Returns the objects of all overlays, of each component over each of them that does not include it, and of standalone kustomizations."""
    with tempfile.TemporaryDirectory() as work:
        overlays = {path.name: path for path in sorted((K8S / "overlays").iterdir())}
        inside = {name: parts(path) for name, path in overlays.items()}
        todo, apart = dict(overlays), set(APART)
        for found in sorted([*(K8S / "components").rglob("kustomization.yaml"), K8S / "argocd/kustomization.yaml"]):
            name = str(found.parent.relative_to(K8S)).removeprefix("components/").replace("/", "-")
            if load(found)[0]["kind"] == "Kustomization":
                todo[f"{name} alone"] = found.parent
                continue
            for below, path in overlays.items():
                if found.parent.resolve() in inside[below]:
                    continue
                if (below, name) in APART:
                    apart.discard((below, name))
                    continue
                folder = Path(work) / below / name
                folder.mkdir(parents=True)
                where = lambda path: os.path.relpath(path, folder.resolve())
                lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources:", f"  - {where(path)}", "components:", f"  - {where(found.parent)}"]
                (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")
                todo[f"{below} with {name}"] = folder
        check(not apart, f"compositions.py: {sorted(apart)} cannot be together, but are not there")
        with ThreadPoolExecutor(2) as pool:
            built = pool.map(lambda folder: build(kustomize, str(folder)), todo.values())
            return dict(zip(todo, built, strict=True))
