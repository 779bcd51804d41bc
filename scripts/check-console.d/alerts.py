"""Compares the alerts of the console's page of operators with Prometheus' rules.

usage: alerts.py PAGE RULES RECORDING

An alert of PAGE has to compare the same metric, within the same times and with the same bounds, as the rule of its name in RULES, directly or by a
rule of RECORDING, and to hold for the same time. Each alert of RULES is one of PAGE, or PAGE says why it is not.
"""

import re
import sys
from pathlib import Path

LABELS = r"\{ ?((?:\w+: '[^']*')?(?:, \w+: '[^']*')*) ?\}"
PRESENT = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, (\d+), '(\w+)'\],$", re.MULTILINE)
INCREASES = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, '(\w+)', (\d+), '(\w*)'\],$", re.MULTILINE)
RATES = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, '(\w+)', (0\.\d+), '(\w*)'\],$", re.MULTILINE)
RATIOS = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, \[('\w+'(?:, '\w+')*)\], ([\d.]+), (\d+), (\d+), '(\w+)'\],$", re.MULTILINE)
LATE = re.compile(rf"^  \['(\w+)', '(\w+)', {LABELS}, \[('\w+'(?:, '\w+')*)\], ([\d.]+), (\d+), '(\w+)'\],$", re.MULTILINE)
QUANTILES = re.compile(rf"\['(\w+)', '(\w+)', {LABELS}, '(\w+)', (0\.\d+), ([\d.]+), '(\w+)'\]\]$", re.MULTILINE)
QUOTIENTS = re.compile(r"\['(\w+)', '(\w+)', '(\w+)', '(\w+)', ([\d.]+), (\d+), '(\w+)'\]\]$", re.MULTILINE)
MINIMA = re.compile(r"\['(\w+)', '(\w+)', '(\w+)', (\d+), '(\w+)'\]\]$", re.MULTILINE)
SHARES = re.compile(r"^  \['(\w+)', '(\w+)', '(\w+)', (0\.\d+), '(\w+)'\],$", re.MULTILINE)
CHANGES = re.compile(r"\['(\w+)', '(\w+)', '(\w+)', (\d+)\]\]$", re.MULTILINE)
NOT_EVALUATED = re.compile(r"^  \['(\w+)', '(?:targets|certificates)'\],$", re.MULTILINE)
# Those of `conditions` that are not in a table.
IN_CODE = re.compile(r"add\('([A-Z]\w+)'")
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
    named = set(NOT_EVALUATED.findall(page)) | set(IN_CODE.findall(page))

    def check(name, holds, labels, *conditions, inside=()):
        nonlocal count
        count += 1
        named.add(name)
        rule = rules.get(name, "")
        # A ratio that is recorded has its labels there.
        whole = rule + " ".join(body for record, body in recorded.items() if record in rule)
        held = not holds or f"for: {holds} " in rule
        if not (held and selects(labels, whole) and all(re.search(condition, rule) for condition in conditions) and all(re.search(part, whole) for part in inside)):
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
    for name, histogram, labels, times, bound, wholes, holds in LATE.findall(page):
        times = re.findall(r"\w+", times)
        bounds = [rf"increase\({histogram}_count{SELECTOR}\[{times[-1]}\]\)\) > {wholes}\b"]
        bounds += [rf"_late:ratio_rate{time} > {re.escape(bound)}\b" for time in times]
        inside = [rf'1 - sum\(rate\({histogram}_bucket\{{[^}}]*le=~"1\|1.0"\}}\[{time}\]' for time in times]
        check(name, holds, labels, *bounds, inside=inside)
    for name, histogram, labels, within, quantile, rate, holds in QUANTILES.findall(page):
        seconds = "".join(record for record, body in recorded.items() if f"histogram_quantile({quantile}," in body and f"({histogram}_bucket" in body and f"[{within}]" in body)
        requests = "".join(record for record, body in recorded.items() if re.search(rf"\(rate\({histogram}_count{SELECTOR}\[{within}\]\)\)$", body.split(" - ")[0].strip()))
        check(name, holds, labels, rf"{seconds or 'missing'} > 1 and {requests or 'missing'} > {re.escape(rate)}(?:\s|$)")
    for name, part, whole, within, bound, rate, holds in QUOTIENTS.findall(page):
        check(name, holds, "", rf"rate\({part}\[{within}\]\)\) / \(sum by \(application\) \(rate\({whole}{SELECTOR}\[{within}\]\)\) > {rate}\) > {re.escape(bound)}(?:\s|$)")
    for name, metric, within, bound, holds in MINIMA.findall(page):
        check(name, holds, "", rf"min_over_time\({metric}\[{within}\]\) > {bound}(?:\s|$)")
    for name, metric, limit, bound, holds in SHARES.findall(page):
        check(name, holds, "", rf"{metric}{SELECTOR} / (?:{limit}|\({limit} > 0\)) > {re.escape(bound)}(?:\s|$)")
    for name, metric, within, least in CHANGES.findall(page):
        check(name, "", "", rf"changes\({metric}{SELECTOR}\[{within}\]\) >= {least}(?:\s|$)")
    rows = len(re.findall(r"(?:^  |= \[)\['[A-Z]\w+', '", page, re.MULTILINE)) - len(NOT_EVALUATED.findall(page))
    if count != rows or count < 10:
        sys.exit(f"{count} of {rows} alerts were read in {sys.argv[1]}")
    if named != set(rules):
        sys.exit(f"alerts of only one of {sys.argv[1]} and {sys.argv[2]}: {sorted(named ^ set(rules))}")
    print(f"alerts: {count} as in {sys.argv[2]}")


main()
