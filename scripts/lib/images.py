"""Writes an archive of images to standard output, in the layout of the Open Container Initiative and in that of `docker save`: images.py REFERENCES

Each line of standard input is an image: {"name": "docker.io/sosohappy/auth", "config": {"User": "65532:65532", …}, "layers": ["/…/base.tar", …]}.
Layers are archives of tar, the lowest first; a layer of several images is written once. An image without a tag gets two names, one with the tag
`latest` and one with its digest, and a line in the file REFERENCES: auth=docker.io/sosohappy/auth@sha256:….
"""

import hashlib
import io
import json
import pathlib
import platform
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
TYPES = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar",
}


class Archive:
    def __init__(self, output):
        self.tar = tarfile.open(fileobj=output, mode="w|")
        self.written = set()
        self.layers = {}

    def file(self, name, content):
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self.tar.addfile(entry, io.BytesIO(content))

    def document(self, kind, content):
        """Adds a document. Returns its descriptor."""
        content = json.dumps(content, sort_keys=True).encode()
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self.written:
            self.file(f"blobs/sha256/{digest}", content)
            self.written.add(digest)
        return {"mediaType": TYPES[kind], "digest": f"sha256:{digest}", "size": len(content)}

    def layer(self, path):
        """Adds a layer. Returns its descriptor."""
        if path not in self.layers:
            with open(path, "rb") as layer:
                digest = hashlib.file_digest(layer, "sha256").hexdigest()
            if digest not in self.written:
                self.tar.add(path, f"blobs/sha256/{digest}")
                self.written.add(digest)
            self.layers[path] = {"mediaType": TYPES["layer"], "digest": f"sha256:{digest}", "size": pathlib.Path(path).stat().st_size}
        return self.layers[path]

    def image(self, config, layers):
        """Adds an image. Returns the descriptor of its manifest, and that of its config with the layers."""
        layers = [self.layer(path) for path in layers]
        config = {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        manifest = {"schemaVersion": 2, "mediaType": TYPES["manifest"], "config": self.document("config", config), "layers": layers}
        return self.document("manifest", manifest), [f"blobs/{part['digest'].replace(':', '/')}" for part in (manifest["config"], *layers)]


def main():
    archive, manifests, saved = Archive(sys.stdout.buffer), [], []
    with open(sys.argv[1], "w") as references:
        for line in sys.stdin:
            image = json.loads(line)
            manifest, files = archive.image(image["config"], image["layers"])
            name = image["name"].rpartition("/")[2]
            names = [image["name"]]
            if ":" not in name:
                names = [f"{image['name']}:latest", f"{image['name']}@{manifest['digest']}"]
                print(f"{name}={names[1]}", file=references)
            # Docker's own layout has no digests.
            saved.append({"Config": files[0], "RepoTags": [names[0]], "Layers": files[1:]})
            manifests += [manifest | {"annotations": {"io.containerd.image.name": name}} for name in names]
    archive.file("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
    archive.file("manifest.json", json.dumps(saved).encode())
    archive.file("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())
    archive.tar.close()


main()
