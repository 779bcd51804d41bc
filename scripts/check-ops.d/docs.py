"""Holds what docs/security.md says is shown by tests to the tests there are, what docs/runbook.md names to what there is (panels of
dashboards, settings, programs and scripts with their commands), and links of the documents to files."""

import json
import re

from common import ROOT, SERVICES, check, finish, settings
from queries import DASHBOARDS

# Words in italics that are no panel: how urgent an alert is, and a variable of the dashboards.
NO_PANEL = {"page", "ticket", "Replica"}


def runbook():
    text = (ROOT / "docs/runbook.md").read_text()
    panels = {panel["title"] for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]}
    named = set(re.findall(r"(?<![*\w/:])\*([A-Za-z][^*\n]*)\*(?!\*)", text)) - NO_PANEL
    check(named <= panels, f"runbook.md: no panel is called {sorted(named - panels)}")
    known = {key for name in SERVICES for key in settings(name)}
    sections = {key.split(".")[0] for key in known}
    asked = {key for key in re.findall(r"`([a-z-]+\.[a-z-]+)`", text) if key.split(".")[0] in sections}
    check(asked <= known, f"runbook.md: no setting is called {sorted(asked - known)}")
    for script, command in re.findall(r"`scripts/([a-z-]+) ([a-z-]+)", text):
        # It takes the tools of Kafka.
        if script == "kafka" and command.startswith("kafka-"):
            continue
        branches = re.findall(r"^[a-z-]+(?: \| [a-z-]+)*\)", (ROOT / "scripts" / script).read_text(), re.MULTILINE)
        check(command in re.findall(r"[a-z-]+", " ".join(branches)), f"runbook.md: scripts/{script} has no {command}")
    commands = re.search(r"enum Command \{(.*?)\n\}", (ROOT / "crates/fleet/src/main.rs").read_text(), re.DOTALL).group(1)
    commands = {re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower() for name in re.findall(r"^    ([A-Z]\w+)\(", commands, re.MULTILINE)}
    asked = set(re.findall(r"`fleet ([a-z-]+)", text))
    check(asked <= commands, f"runbook.md: fleet has no {sorted(asked - commands)}")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        said = re.search(r"`(kubectl|curl|fleet |scripts/|docker|SELECT|sum by|histogram_quantile)|As for the fast burn|\]\(#", section)
        check(said, f"runbook.md: {section.splitlines()[0]} names nothing to run")
    return len(named), len(asked)


def links():
    """How many links to files README and docs have; each file is there."""
    count = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if not target.startswith(("http:", "https:")):
                count += 1
                check((path.parent / target).exists(), f"{path.name}: there is no {target}")
    return count


def main():
    tests = set()
    for path in [*ROOT.glob("crates/**/*.rs"), *ROOT.glob("services/**/*.rs")]:
        tests |= set(re.findall(r"\bfn ([a-z0-9_]+)\(", path.read_text()))
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
            check(shown or "check:" in cells[3], f"security.md: nothing shows {cells[1]}")
    for name in sorted(named - tests):
        check(False, f"security.md: no test is called {name}")
    panels, keys = runbook()
    finish(f"security.md: {len(named)} tests named, runbook.md: {panels} panels and {keys} settings, {links()} links to files, all there")


main()
