"""Compares the alerts of the console's page of operators with Prometheus' rules.

usage: alerts.py PAGE RULES RECORDING

An alert of PAGE has to compare the same metric, within the same times and with the same bounds, as the rule of its name in RULES, directly or by a
rule of RECORDING, and to hold for the same time.
"""

import re
import sys
from pathlib import Path

LABELS = r"\{ ?((?:\w+: '[^']*')?(?:, \w+: '[^']*')*) ?\}"
PRESENT = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, (\d+), '(\w+)'\],$", re.MULTILINE)
INCREASES = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, '(\w+)', (\d+), '(\w*)'\],$", re.MULTILINE)
RATES = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, '(\w+)', (0\.\d+), '(\w*)'\],$", re.MULTILINE)
RATIOS = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, \[('\w+'(?:, '\w+')*)\], ([\d.]+), (\d+), (\d+), '(\w+)'\],$", re.MULTILINE)
SELECTOR = r"(?:\{[^}]*\})?"


def rules_of(text, kind):
    """Returns the rules of a file by name, each as one line."""
    parts = re.split(rf"- {kind}: (\S+)", text)[1:]
    return {name: " ".join(body.split()) for name, body in zip(parts[::2], parts[1::2])}


def selects(labels, rule):
    """Whether a rule has these labels."""
    pairs = re.findall(r"(\w+): '([^']*)'", labels)
    return all(re.search(rf'\b{label}=~?"{re.escape(value)}"', rule) for label, value in pairs)


def main():
    page, alerts, recording = (Path(name).read_text() for name in sys.argv[1:])
    rules = rules_of(alerts, "alert")
    recorded = rules_of(recording, "record")
    count = 0

    def check(name, holds, labels, *conditions):
        nonlocal count
        count += 1
        rule = rules.get(name, "")
        # A ratio that is recorded has its labels there.
        whole = rule + " ".join(body for record, body in recorded.items() if record in rule)
        held = not holds or f"for: {holds} " in rule
        if not (held and selects(labels, whole) and all(re.search(condition, rule) for condition in conditions)):
            sys.exit(f"{name} of {sys.argv[1]} differs from its rule: {rule or 'there is none'}")

    for name, metric, labels, bound, holds in PRESENT.findall(page):
        names = "|".join([metric, *(record for record, body in recorded.items() if f"({metric})" in body)])
        check(name, holds, labels, rf"(?:{names}){SELECTOR}\)? > {bound} ")
    for name, metric, labels, within, bound, holds in INCREASES.findall(page):
        check(name, holds, labels, rf"increase\({metric}{SELECTOR}\[{within}\]\)\) > {bound}\b")
    for name, metric, labels, within, bound, holds in RATES.findall(page):
        check(name, holds, labels, rf"rate\({metric}{SELECTOR}\[{within}\]\)\) > {re.escape(bound)}(?:\s|$)")
    for name, metric, labels, times, bound, parts, wholes, holds in RATIOS.findall(page):
        times = re.findall(r"\w+", times)
        bounds = [rf"{re.escape(bound)}\b"]
        bounds += [rf"increase\({metric}{SELECTOR}\[{times[-1]}\]\)\) > {least}\b" for least in (parts, wholes) if least != "0"]
        direct = all(re.search(rf"increase\({metric}{SELECTOR}\[{time}\]", rules.get(name, "")) for time in times)
        bounds += [] if direct else [rf"ratio_rate{time} > {re.escape(bound)}\b" for time in times]
        check(name, holds, labels, *bounds)
    rows = len(re.findall(r"^  \['[A-Z]\w+', '", page, re.MULTILINE))
    if count != rows or count < 10:
        sys.exit(f"{count} of {rows} alerts were read in {sys.argv[1]}")
    print(f"alerts: {count} as in {sys.argv[2]}")


main()
