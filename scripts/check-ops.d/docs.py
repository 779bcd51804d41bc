"""Compares the documents with the repository: the crates and files of docs/architecture.md and README.md, tests named in docs/security.md and docs/tour, panels, settings, programs and scripts named in
docs/runbook.md, metrics and functions named in docs/tour and docs/decisions, the diffs of docs/contributing, links to files and headings, and the ports, the Rust and the command of .devcontainer."""

import json
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

from common import ROOT, SERVICES, check, finish, settings
from queries import DASHBOARDS

# Words in italics that are not panels: severities of alerts, and a variable of the dashboards.
NO_PANEL = {"page", "ticket", "Replica"}


def runbook():
    text = (ROOT / "docs/runbook.md").read_text()
    panels = {panel["title"] for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]}
    named = set(re.findall(r"(?<![*\w/:])\*([A-Za-z][^*\n]*)\*(?!\*)", text)) - NO_PANEL
    check(named <= panels, f"runbook.md: unknown panels {sorted(named - panels)}")
    known = {key for name in SERVICES for key in settings(name)}
    sections = {key.split(".")[0] for key in known}
    asked = {key for key in re.findall(r"`([a-z-]+\.[a-z-]+)`", text) if key.split(".")[0] in sections}
    check(asked <= known, f"runbook.md: unknown settings {sorted(asked - known)}")
    for script, command in re.findall(r"`scripts/([a-z-]+) ([a-z-]+)", text):
        # scripts/kafka accepts the tools of Kafka.
        if script == "kafka" and command.startswith("kafka-"):
            continue
        branches = re.findall(r"^[a-z-]+(?: \| [a-z-]+)*\)", (ROOT / "scripts" / script).read_text(), re.MULTILINE)
        check(command in re.findall(r"[a-z-]+", " ".join(branches)), f"runbook.md: scripts/{script} has no command {command}")
    commands = re.search(r"enum Command \{(.*?)\n\}", (ROOT / "crates/fleet/src/main.rs").read_text(), re.DOTALL).group(1)
    commands = {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name in re.findall(r"^    ([A-Z]\w+)\(", commands, re.MULTILINE)}
    asked = set(re.findall(r"`fleet ([a-z-]+)", text))
    check(asked <= commands, f"runbook.md: fleet has no commands {sorted(asked - commands)}")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        said = re.search(r"`(kubectl|curl|fleet |scripts/|docker|SELECT|sum by|histogram_quantile)|As for the fast burn|\]\(#", section)
        check(said, f"runbook.md: {section.splitlines()[0]} has no command")
    return len(named), len(asked)


DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
LINK = r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)"


def headings(path):
    """The anchors of a document's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def links():
    """Checks that each link to a file or heading has its target; returns the number of links."""
    count = 0
    for path in DOCUMENTS:
        name = path.relative_to(ROOT)
        for target, anchor in re.findall(LINK, path.read_text()):
            if target.startswith(("http:", "https:")):
                continue
            count += 1
            file = path.parent / target if target else path
            if check(file.exists(), f"{name}: {target} does not exist") and anchor and file.suffix == ".md":
                check(anchor in headings(file), f"{name}: {target or path.name} has no heading #{anchor}")
    return count


def crates():
    """Checks that the table of crates names each crate with its dependencies, none of which is above it; returns the number of crates."""
    packages = {path.parent.relative_to(ROOT).as_posix(): tomllib.loads(path.read_text()) for path in [*ROOT.glob("crates/*/Cargo.toml"), *ROOT.glob("services/*/Cargo.toml")]}
    table = (ROOT / "docs/architecture.md").read_text().split("## The crates")[1].split("\n## ")[0]
    above = set()
    for names, said in re.findall(r"^\| (`.*?) \| .* \|(.*)\|$", table, re.MULTILINE):
        listed = {*said.replace("every service", ",".join(SERVICES)).replace(" ", "").split(",")} - {""}
        row = re.findall(r"`([a-z/-]+)`", names)
        above |= {name.split("/")[1] for name in row}
        for name in row:
            if check(name in packages, f"architecture.md: there is no crate {name}"):
                needed = {key.removeprefix("sosohappy-") for key in packages.pop(name)["dependencies"] if key.startswith("sosohappy-")}
                check(needed == listed, f"architecture.md: {name} depends on {sorted(needed)}, the table says {sorted(listed)}")
                check(not needed & above, f"architecture.md: {name} depends on {sorted(needed & above)}, which are not below it")
    check(not packages, f"architecture.md: {sorted(packages)} are missing")
    listed = set(re.findall(r"^(crates/[a-z-]+) ", (ROOT / "README.md").read_text(), re.MULTILINE))
    present = {f"crates/{path.parent.name}" for path in ROOT.glob("crates/*/Cargo.toml")}
    check(listed == present, f"README.md: the layout and the crates differ by {sorted(listed ^ present)}")
    return len(above)


def files_of_services():
    """Checks that each service has the files of "One service", and no service one that is another's; returns the number of files."""
    table = (ROOT / "docs/architecture.md").read_text().split("## One service")[1].split("```")[1]
    rows = re.findall(r"^src/(\S+) .*?(?:\(([a-z, ]+)\))?$", table, re.MULTILINE)
    for file, said in rows:
        owners = set(said.split(", ")) if said else set(SERVICES)
        present = {service for service in SERVICES if (ROOT / "services" / service / "src" / file).exists()}
        check(present == owners, f"architecture.md: src/{file} is in {sorted(present)}, the table says {sorted(owners)}")
    check(len(rows) > 5, f"architecture.md: only {len(rows)} files of a service were read")
    return len(rows)


def tour(sources):
    """Checks the tests, metrics and functions that the tour and the decisions name; returns the number of tests and of metrics."""
    code = "\n".join(sources.values())
    functions = set(re.findall(r"\bfn ([a-z0-9_]+)", code))
    words = set(re.findall(r"\w+", code))
    tests, metrics = 0, 0
    for path in [*sorted((ROOT / "docs/tour").glob("*.md")), *sorted((ROOT / "docs/decisions").glob("*.md"))]:
        text, name = path.read_text(), path.relative_to(ROOT)
        for owner, member in re.findall(r"`(\w+)::(\w+)", text):
            known = member in (functions if member.islower() else words) and owner in words
            check(known, f"{name}: {owner}::{member} does not exist")
        sections = {section.split("\n", 1)[0]: section for section in re.split(r"^## ", text, flags=re.MULTILINE)}
        # A part of an item names tests and links the file that has them.
        for part in re.split(r"^\* |;", sections.get("Tests", ""), flags=re.MULTILINE):
            files = [(path.parent / target).resolve() for target, _ in re.findall(LINK, part) if target.endswith(".rs")]
            for test in re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", part):
                tests += 1
                held = any(re.search(rf"\bfn {test}\(", sources.get(file, "")) for file in files)
                check(held, f"{name}: no test {test} in {[file.name for file in files]}")
        for metric in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", sections.get("Metrics and alerts", "")):
            metrics += 1
            check(f'"{metric}"' in code, f"{name}: unknown metric {metric}")
    return tests, metrics


def diffs():
    """Checks that the diffs of docs/contributing are of this tree; returns their number of lines.

    Those of the example service give its folder when they are applied to nothing, so that its build and its tests are theirs. Each line that the
    one of an event adds is in the file, as far as its match arm: later topics change what follows.
    """
    folder = ROOT / "docs/contributing"
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples/tally").rglob("*") if path.is_file()}
    with tempfile.TemporaryDirectory() as empty:
        for name in ("service.diff", "endpoint.diff"):
            applied = subprocess.run(["git", "apply", folder / name], cwd=empty, capture_output=True, text=True)
            check(applied.returncode == 0, f"{name} does not apply: {applied.stderr.strip()}")
        made = {path.relative_to(empty).as_posix(): path.read_text() for path in Path(empty).rglob("*") if path.is_file()}
    check(set(made) == files, f"the diffs of examples/tally and the folder differ by {sorted(set(made) ^ files)}")
    for name in sorted(set(made) & files):
        check(made[name] == (ROOT / name).read_text(), f"{name} is not what the diffs of docs/contributing make")
    text = (folder / "event.diff").read_text()
    for name, body in re.findall(r"^\+\+\+ b/(\S+)\n(.*?)(?=^diff |\Z)", text, re.MULTILINE | re.DOTALL):
        if check((ROOT / name).exists(), f"event.diff: there is no {name}"):
            present = (ROOT / name).read_text()
            added = re.findall(r"^\+(.*)$", body, re.MULTILINE)
            # The number of topics grows.
            missing = [line for line in added if line.split("=>")[0].strip() not in present and "[Self; " not in line]
            check(not missing, f"event.diff: {name} has no {missing[:3]}")
    return sum(len(path.read_text().splitlines()) for path in folder.glob("*.diff"))


def devcontainer():
    """Checks the development container: the ports of the fleet and their names, the Rust of the images, which builds the fleet, and a target of make; returns the number of ports."""
    found = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    entry = re.search(r'const DEFAULT: &str = "127\.0\.0\.1:(\d+)";', (ROOT / "crates/fleet/src/entry.rs").read_text())
    names = {int(entry[1]): "console"} | {port: name for name, port in SERVICES.items()}
    check(sorted(found["forwardPorts"]) == sorted(names), f"devcontainer.json: forwards {found['forwardPorts']}, the fleet has {sorted(names)}")
    labels = {int(port): attributes["label"] for port, attributes in found["portsAttributes"].items()}
    check(labels == names, f"devcontainer.json: names ports {labels}, they are {names}")
    builder = re.search(r"^FROM (rust:\S+)", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)[1]
    check(found["image"] == builder, f"devcontainer.json: the image is {found['image']}, docker/Dockerfile builds with {builder}")
    number = lambda text: tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    needed = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    check(number(found["image"]) >= number(needed), f"devcontainer.json: the fleet needs Rust {needed}")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    check(found["onCreateCommand"] in {f"make {target}" for target in targets}, f"devcontainer.json: there is no {found['onCreateCommand']}")
    return len(names)


def main():
    sources = {path: path.read_text() for path in [*ROOT.glob("crates/**/*.rs"), *ROOT.glob("services/**/*.rs")]}
    tests = {name for text in sources.values() for name in re.findall(r"\bfn ([a-z0-9_]+)\(", text)}
    named, shows = set(), False
    for line in (ROOT / "docs/security.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 5:
            continue
        if cells[1] in ("threat", "what"):
            shows = cells[3] == "shown by"
        elif shows and cells[3] != "---":
            shown = re.findall(r"`([a-z0-9_]+)`", cells[3])
            named |= set(shown)
            check(shown or "check:" in cells[3], f"security.md: no test for {cells[1]}")
    for name in sorted(named - tests):
        check(False, f"security.md: unknown test {name}")
    panels, keys = runbook()
    toured, metrics = tour(sources)
    counted, parts = crates(), files_of_services()
    shown = diffs()
    ports = devcontainer()
    finish(
        f"security.md: {len(named)} tests, runbook.md: {panels} panels and {keys} settings, tour: {toured} tests and {metrics} metrics, "
        f"{links()} links, {counted} crates, {parts} files of a service, {shown} lines of diffs, {ports} ports of the development container, all valid"
    )


main()
