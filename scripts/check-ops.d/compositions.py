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


def compositions(kustomize):
    """Returns the objects of both overlays, of each component over one of them unless production includes it, and of standalone kustomizations."""
    with tempfile.TemporaryDirectory() as work:
        todo = {path.name: path for path in sorted((K8S / "overlays").iterdir())}
        part_of_production = {(K8S / "overlays/production" / path).resolve() for path in load(K8S / "overlays/production/kustomization.yaml")[0]["components"]}
        for found in sorted([*(K8S / "components").rglob("kustomization.yaml"), K8S / "argocd/kustomization.yaml"]):
            name = str(found.parent.relative_to(K8S)).removeprefix("components/").replace("/", "-")
            if load(found)[0]["kind"] == "Kustomization":
                todo[f"{name} alone"] = found.parent
            elif found.parent.resolve() not in part_of_production:
                # Production has another ingress already.
                below = "dev" if name == "ingress" else "production"
                folder = Path(work) / name
                folder.mkdir()
                where = lambda path: os.path.relpath(path, folder.resolve())
                lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources:", f"  - {where(K8S / 'overlays' / below)}", "components:", f"  - {where(found.parent)}"]
                (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")
                todo[f"{below} with {name}"] = folder
        with ThreadPoolExecutor(2) as pool:
            built = pool.map(lambda folder: build(kustomize, str(folder)), todo.values())
            return dict(zip(todo, built, strict=True))
