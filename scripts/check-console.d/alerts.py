"""Compares the alerts of the console's page of operators with Prometheus' rules.

usage: alerts.py PAGE RULES RECORDING

An alert of PAGE has to compare the same metric with the same bound as the rule of its name in RULES, directly or by a rule of RECORDING,
and to hold for the same time; a counted one has to be an increase there.
"""

import re
import sys
from pathlib import Path

COMPARED = re.compile(r"^  \['(\w+)', '(\w+)', \{.*\}, (\d+), '(\w+)'\],$", re.MULTILINE)
COUNTED = re.compile(r"^  \['(\w+)', '(\w+)'\],$", re.MULTILINE)


def rules_of(text, kind):
    """Returns the rules of a file by name, each as one line."""
    parts = re.split(rf"- {kind}: (\S+)", text)[1:]
    return {name: " ".join(body.split()) for name, body in zip(parts[::2], parts[1::2])}


def main():
    page, alerts, recording = (Path(name).read_text() for name in sys.argv[1:])
    rules = rules_of(alerts, "alert")
    recorded = rules_of(recording, "record")
    found = [*COMPARED.findall(page), *(pair + ("", "") for pair in COUNTED.findall(page))]
    if len(found) < 10:
        sys.exit(f"only {len(found)} alerts were found in {sys.argv[1]}")
    for name, metric, bound, holds in found:
        rule = rules.get(name, "")
        names = "|".join([metric, *(record for record, body in recorded.items() if f"({metric})" in body)])
        condition = rf"(?:{names})(?:\{{[^}}]*\}})?\)? > {bound} " if bound else rf"increase\({metric}\["
        if not re.search(condition, rule) or (holds and f"for: {holds} " not in rule):
            sys.exit(f"{name} of {sys.argv[1]} differs from its rule: {rule or 'there is none'}")
    print(f"alerts: {len(found)} as in {sys.argv[2]}")


main()
