"""Reads the queries of rules and dashboards, and the metrics in them."""

import re

from common import ROOT, load

MONITORING = ROOT / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))
# Prefixes of metrics that other programs expose, with the reason why a run of the fleet has none of them.
OUTSIDE = {
    "mongodb_": "mongodb_exporter requires a real MongoDB",
    "certmanager_": "cert-manager requires a cluster",
    "probe_ssl_": "a prober runs outside of the cluster",
}
WORDS = {"and", "or", "unless", "by", "without", "offset", "on", "ignoring", "group_left", "group_right", "bool", "inf", "nan"}


def groups_of_rules():
    return [group for path in sorted((MONITORING / "prometheus/rules").glob("*.yml")) for group in load(path)[0]["groups"]]


def queries_of(path, board):
    """Returns title and query of each panel that queries Prometheus; variables are replaced by "all"."""
    targets = [(panel["title"], target) for panel in board["panels"] for target in panel.get("targets", [])]
    variables = re.compile(r"\$(" + "|".join(variable["name"] for variable in board["templating"]["list"]) + r")\b")
    return [(f"{path.name}: {title}", variables.sub(".*", target["expr"])) for title, target in targets if target["datasource"]["type"] == "prometheus"]


def asked(expression):
    """Returns the metrics in an expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    names = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w*\s*\()", bare)
    return {name for name in names if name.lower() not in WORDS and not re.search(rf"\b{re.escape(name)}\s*\(", bare)}


def selectors(expression):
    """Returns the selectors of an expression: each metric with its matchers."""
    each = lambda name: re.findall(rf"(?<![\w:]){re.escape(name)}(?![\w:])(\{{[^}}]*\}})?", expression)
    return {name + matchers for name in asked(expression) for matchers in each(name)}
