"""Tries scripts/image-sources on a repository with the manifests of this one: which change makes which images anew. Compares what the code compiles in
from outside of its crate with what the script knows."""

import re
import subprocess
import sys
import tempfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from common import ROOT, check, finish

SCRIPT = ROOT / "scripts/image-sources"
ALL = {"config", "auth", "feed", "dm", "notice", "fleet"}
# A changed file, and the images that are made anew.
CHANGES = {
    "services/feed/src/lib.rs": {"feed", "fleet"},
    "services/config/schemas/auth.json": {"config", "fleet"},
    "services/feed/tests/api.rs": set(),
    "crates/realtime/src/lib.rs": {"dm", "notice", "fleet"},
    "crates/media/src/lib.rs": {"auth", "feed", "fleet"},
    "crates/access/src/lib.rs": {"auth", "feed", "dm", "notice", "fleet"},
    "crates/common/src/lib.rs": ALL,
    "crates/kafka-admin/src/lib.rs": {"fleet"},
    "crates/fleet/src/main.rs": {"fleet"},
    "web/index.html": {"fleet"},
    "crates/testkit/src/lib.rs": set(),
    "crates/bench/src/main.rs": set(),
    # The features of a workspace are unified.
    "crates/bench/Cargo.toml": ALL,
    "Cargo.lock": ALL,
    "docker/Dockerfile": ALL,
    "k8s/base/network.yaml": set(),
    "README.md": set(),
}


def tried():
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)

        def git(*arguments):
            subprocess.run(["git", "-c", "user.name=check", "-c", "user.email=check@example.com", "-c", "commit.gpgsign=false", *arguments], cwd=folder, check=True, capture_output=True)

        def ask(*arguments):
            return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=folder, text=True, capture_output=True)

        for path in [ROOT / "Cargo.toml", *ROOT.glob("crates/*/Cargo.toml"), *ROOT.glob("services/*/Cargo.toml")]:
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(path.read_text())
        for name in CHANGES.keys() - {"crates/bench/Cargo.toml"}:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("")
        git("init", "--quiet")
        git("add", "--all")
        git("commit", "--quiet", "--message", "first")
        check(ask("changed", "HEAD").stdout == "", "image-sources: without a change something has changed")
        check(set(ask("changed", "0" * 40).stdout.split()) == ALL, "image-sources: an unknown commit is not taken for a change of everything")
        for name, images in CHANGES.items():
            path, before = folder / name, ask("key", "feed").stdout
            path.write_text(path.read_text() + "\n")
            dirty = ask("key", "feed")
            check((dirty.returncode != 0) == ("feed" in images), f"image-sources: {name} is not committed, and key says {dirty.stdout}{dirty.stderr}")
            git("commit", "--quiet", "--all", "--message", name)
            changed = ask("changed", "HEAD^")
            check(set(changed.stdout.split()) == images, f"image-sources: {name} makes {sorted(changed.stdout.split())} anew, not {sorted(images)}: {changed.stderr}")
            check((ask("key", "feed").stdout != before) == ("feed" in images), f"image-sources: the key of feed after a change of {name}")
        # Back to an earlier state: the key is that of then, and its image is used again.
        keys = [ask("key", "feed").stdout]
        for words in ("one", ""):
            (folder / "services/feed/src/lib.rs").write_text(f"\n{words}")
            git("commit", "--quiet", "--all", "--message", "feed")
            keys.append(ask("key", "feed").stdout)
        check(keys[0] == keys[2] != keys[1], f"image-sources: keys {keys} of a change that was undone")
        (folder / "services/feed/src/more").mkdir()
        (folder / "services/feed/src/more/new.rs").write_text("")
        check("new.rs is not committed" in ask("key", "feed").stderr, "image-sources: a file that git does not know is not seen")


def embedded():
    """Checks that each file that is compiled in from another folder belongs to the images of its crate; returns their number."""
    loader = SourceFileLoader("image_sources", str(SCRIPT))
    script = module_from_spec(spec_from_loader("image_sources", loader))
    loader.exec_module(script)
    count = 0
    for source in [*ROOT.glob("crates/*/src/**/*.rs"), *ROOT.glob("services/*/src/**/*.rs"), *ROOT.glob("crates/*/build.rs"), *ROOT.glob("services/*/build.rs")]:
        crate = ROOT / Path(*source.relative_to(ROOT).parts[:2])
        text = source.read_text().split("#[cfg(test)]")[0]
        named = [source.parent / path for path in re.findall(r'\binclude(?:_str|_bytes|_dir)?!\(\s*"([^"]+)"', text)]
        named += [crate / path for path in re.findall(r'#\[folder = "([^"]+)"\]|\bmigrate!\(\s*"([^"]+)"', text) for path in path if path]
        for path in (path.resolve() for path in named):
            if not path.is_relative_to(crate):
                count += 1
                folders = [ROOT / folder for folder in script.EMBEDDED.get(crate.relative_to(ROOT).as_posix(), ())]
                check(any(path.is_relative_to(folder) for folder in folders), f"image-sources: {source.relative_to(ROOT)} compiles {path.relative_to(ROOT)} in, which does not count as a source")
    check(count, "image-sources: nothing is compiled in from other folders: EMBEDDED is not needed")
    return count


def main():
    tried()
    finish(f"{len(CHANGES)} changes, {embedded()} folders compiled in")


main()
