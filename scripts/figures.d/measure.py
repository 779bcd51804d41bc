"""Measures duplication and complexity, and compares them, and the coverage that scripts/figures has measured, with the limits.

usage: measure.py FOLDER JSCPD    writes duplication.json, complexity.csv and figures.json into the folder; JSCPD is the program
"""

import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMITS = tomllib.loads(Path(__file__).with_name("limits.toml").read_text())
# Of every crate, without tests: those repeat themselves on purpose.
SOURCES = sorted(path for path in [*ROOT.glob("crates/*/src/**/*.rs"), *ROOT.glob("services/*/src/**/*.rs")] if "tests" not in (*path.parts, path.stem) and not path.stem.endswith("_tests"))


def duplication(folder, jscpd):
    """Returns the per cent of lines that are in a block which is there twice."""
    subprocess.run([jscpd, "--min-tokens", "70", "--format", "rust", "--ignore", "**/tests/**,**/tests.rs,**/*_tests.rs", "--reporters", "json", "--report-name", "duplication", "--output", folder, "crates", "services"],
                   cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "duplication.json").read_text())["statistics"]["total"]["percentage"]


def complexity(folder):
    """Returns the number of functions, the highest number of decisions in one, and how many have more than 20."""
    # Here, so that the comparison is tried without it.
    import lizard

    rows = [(function.cyclomatic_complexity, function.nloc, f"{path.relative_to(ROOT)}:{function.start_line}", function.name)
            for path in SOURCES for function in lizard.analyze_file(str(path)).function_list]
    rows.sort(reverse=True)
    with (folder / "complexity.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("decisions", "lines", "place", "function"), *rows])
    return len(rows), rows[0][0], sum(row[0] > 20 for row in rows)


def compared(figures):
    """Returns a complaint for each figure that does not meet its limit."""
    limits = {
        "coverage of lines": (figures.get("coverage"), ">=", LIMITS["coverage"]["lines-at-least"]),
        "duplicated lines": (figures.get("duplication"), "<=", LIMITS["duplication"]["lines-at-most"]),
        "decisions in a function": (figures.get("complexity"), "<=", LIMITS["complexity"]["function-at-most"]),
        "functions with more than 20 decisions": (figures.get("above-20"), "<=", LIMITS["complexity"]["above-20-at-most"]),
    }
    return [f"{name}: {value:g}, the limit is {limit:g}" for name, (value, way, limit) in limits.items()
            if value is not None and not (value >= limit if way == ">=" else value <= limit)]


def main():
    folder, figures = Path(sys.argv[1]).resolve(), {}
    if (folder / "coverage.json").exists():
        figures["coverage"] = json.loads((folder / "coverage.json").read_text())["data"][0]["totals"]["lines"]["percent"]
    figures["duplication"] = duplication(folder, sys.argv[2])
    figures["functions"], figures["complexity"], figures["above-20"] = complexity(folder)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(f"{folder.name}: {json.dumps(figures)}")
    if complaints := compared(figures):
        sys.exit("\n".join(f"error: {complaint}" for complaint in complaints))


if __name__ == "__main__":
    main()
