"""Holds what docs/security.md says is shown by tests to the tests there are."""

import re

from common import ROOT, check, finish


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
    finish(f"security.md: {len(named)} tests named, all there")


main()
