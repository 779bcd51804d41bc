"""Validates the manifests with a real API server: creates every composition in a dry run, and applies each overlay twice.

usage: apiserver.py KUSTOMIZE KUBERNETES DEFINITIONS    the program of scripts/cluster.d/kubernetes, and the folder of the
                                                        CustomResourceDefinitions

An API server checks more than a schema does: lists with keys, rules in CEL, defaults, admission, Pod Security. No kubelet runs, so no pod
starts. Strimzi's definitions are not available as a module: its kinds are accepted without validation here, and strimzi.groovy
checks them with Strimzi's own classes.
"""

import json
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import check, finish, reserve_port
from compositions import K8S, build, compositions

# Seconds.
START = 180
STRIMZI = "kafka.strimzi.io"


class Cluster:
    """etcd and the API server on loopback, with all data in a temporary folder."""

    def __init__(self, program, folder):
        self.program, self.folder, self.processes = program, Path(folder), []
        store, peers, port, token = reserve_port(), reserve_port(), reserve_port(), secrets.token_hex(16)
        key = self.folder / "service-account.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (self.folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "fleet",
            "clusters": [{"name": "fleet", "cluster": {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "fleet", "context": {"cluster": "fleet", "user": "admin"}}],
        }
        (self.folder / "kubeconfig").write_text(json.dumps(config))
        url, peer = f"http://127.0.0.1:{store}", f"http://127.0.0.1:{peers}"
        self.start("etcd", "--name=fleet", f"--data-dir={self.folder / 'etcd'}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
                   f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=fleet={peer}", "--unsafe-no-fsync")
        # A controller that does not run here would create ServiceAccounts.
        self.start("kube-apiserver", f"--etcd-servers={url}", "--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={self.folder}",
                   "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none", "--authorization-mode=RBAC",
                   f"--token-auth-file={self.folder / 'tokens.csv'}", "--disable-admission-plugins=ServiceAccount",
                   "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}")

    def start(self, part, *flags):
        log = (self.folder / f"{part}.log").open("w")
        self.processes.append(subprocess.Popen([self.program, part, *flags], stdout=log, stderr=subprocess.STDOUT))

    def wait(self):
        deadline = time.monotonic() + START
        while self.kubectl("get", "--raw", "/readyz").stdout != "ok":
            ended = [process for process in self.processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join((self.folder / f"{part}.log").read_text()[-2000:] for part in ("etcd", "kube-apiserver"))
                sys.exit(f"the API server is not ready\n{logs}")
            time.sleep(0.5)

    def wait_for_kinds(self):
        """Definitions are established a moment before clients find their kinds."""
        deadline = time.monotonic() + START
        while True:
            defined = {line.partition("/")[2] for line in self.kubectl("get", "customresourcedefinitions", "--output=name").stdout.split()}
            found = set(self.kubectl("api-resources", "--output=name").stdout.split())
            if defined and defined <= found:
                return
            if time.monotonic() > deadline:
                sys.exit(f"not served though defined: {sorted(defined - found)}")
            time.sleep(0.5)

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()

    def kubectl(self, *arguments, objects=None):
        command = [self.program, "kubectl", f"--kubeconfig={self.folder / 'kubeconfig'}", *arguments]
        documents = None if objects is None else "\n---\n".join(json.dumps(item) for item in objects)
        return subprocess.run(command, text=True, capture_output=True, input=documents)

    def versions(self, objects):
        """Returns the resource version of each object, which changes with every write."""
        got = self.kubectl("get", "--output=json", "--filename=-", objects=objects)
        check(got.returncode == 0, f"reading applied objects failed: {got.stderr.strip()}")
        items = json.loads(got.stdout or "{}").get("items", [])
        return {f"{item['kind']} {item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in items}

    def accepts(self, title, objects, *arguments):
        """Reports each error and each warning (unknown fields, Pod Security, deprecated versions); returns the lines of kubectl's output."""
        done = self.kubectl(*arguments, "--validate=strict", "--filename=-", objects=objects)
        for line in done.stderr.splitlines():
            check(False, f"{title}: {line}")
        check(done.returncode == 0, f"{title}: kubectl {arguments[0]} ended with {done.returncode}")
        return done.stdout.splitlines()


def definitions_of_strimzi(built):
    """Returns a definition without a schema for each kind of Strimzi in use."""
    found = []
    kinds = {(item["kind"], item["apiVersion"].partition("/")[2]) for objects in built.values() for item in objects if item["apiVersion"].startswith(STRIMZI)}
    for kind, version in kinds:
        plural = kind.lower() + "s"
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        found.append({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{STRIMZI}"},
            "spec": {"group": STRIMZI, "scope": "Namespaced", "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                     "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]},
        })
    return found


def main():
    kustomize, program, folder = sys.argv[1:]
    built = compositions(kustomize)
    with tempfile.TemporaryDirectory() as work:
        cluster = Cluster(program, work)
        try:
            cluster.wait()
            files = [path for path in sorted(Path(folder).rglob("*.yaml")) if "kind: CustomResourceDefinition\n" in path.read_text()]
            defined = cluster.kubectl("apply", "--server-side", *(f"--filename={path}" for path in files))
            check(defined.returncode == 0, f"definitions: {defined.stderr.strip()}")
            cluster.accepts("definitions", definitions_of_strimzi(built), "create")
            waited = cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all")
            check(waited.returncode == 0, f"definitions: {waited.stderr.strip()}")
            cluster.wait_for_kinds()
            # A dry run does not make the namespaces that its own objects are in.
            own = {item["metadata"]["name"]: item for objects in built.values() for item in objects if item["kind"] == "Namespace"}
            used = {item["metadata"]["namespace"] for objects in built.values() for item in objects if "namespace" in item["metadata"]}
            made = list(own.values()) + [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in sorted(used - own.keys() - {"default"})]
            cluster.accepts("namespaces", made, "create")
            objects = 0
            for title, composition in built.items():
                others = [item for item in composition if item["kind"] != "Namespace"]
                objects += len(cluster.accepts(title, others, "create", "--dry-run=server"))
            overlays = {path.name: build(kustomize, str(path)) for path in sorted((K8S / "overlays").iterdir())}
            for title, overlay in overlays.items():
                cluster.accepts(title, [item for item in overlay if item["kind"] == "Namespace"], "apply", "--server-side", "--force-conflicts")
                others = [item for item in overlay if item["kind"] != "Namespace"]
                cluster.accepts(title, others, "apply")
                before = cluster.versions(others)
                cluster.accepts(title, others, "apply")
                for thing, version in cluster.versions(others).items():
                    check(before.get(thing) == version, f"{title}: {thing} changes when it is applied again")
        finally:
            cluster.stop()
    finish(f"{len(built)} compositions, {objects} objects accepted; {' and '.join(overlays)} applied, and unchanged when applied again")


main()
