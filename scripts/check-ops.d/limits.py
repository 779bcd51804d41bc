"""Tries the limits of scripts/figures: each is seen when it is not met, and nothing is said when all are."""

import sys

from common import ROOT, check, finish

sys.path.append(str(ROOT / "scripts/figures.d"))

import measure

# Figures that meet every limit, and for each of them one that does not.
GOOD = {
    "coverage": measure.LIMITS["coverage"]["lines-at-least"],
    "duplication": measure.LIMITS["duplication"]["lines-at-most"],
    "complexity": measure.LIMITS["complexity"]["function-at-most"],
    "above-20": measure.LIMITS["complexity"]["above-20-at-most"],
}
WORSE = {"coverage": -0.1, "duplication": 0.1, "complexity": 1, "above-20": 1}


def main():
    check(not measure.compared(GOOD), f"figures: {measure.compared(GOOD)}, though the limits are met")
    for name, by in WORSE.items():
        said = measure.compared(GOOD | {name: GOOD[name] + by})
        check(len(said) == 1, f"figures: {name} is worse than its limit, and it says {said}")
    check(not measure.compared({name: value for name, value in GOOD.items() if name != "coverage"}), "figures: without the coverage a limit is not met")
    check(len(measure.SOURCES) > 400 and not any("tests" in path.parts for path in measure.SOURCES), f"figures: {len(measure.SOURCES)} sources")
    finish(f"{len(WORSE)} limits, each seen when it is not met")


main()
