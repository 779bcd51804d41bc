"""The queries of rules and dashboards, and the metrics they ask for."""

import re

from common import ROOT, load

MONITORING = ROOT / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))
# Metrics that others bring, by how their names begin, and why no run of the fleet here shows them.
OUTSIDE = {
    "mongodb_": "mongodb_exporter wants a real MongoDB",
    "certmanager_": "cert-manager is a cluster's",
    "probe_ssl_": "a prober stands outside of the cluster",
}
WORDS = {"and", "or", "unless", "by", "without", "offset", "on", "ignoring", "group_left", "group_right", "bool", "inf", "nan"}


def groups_of_rules():
    return [group for path in sorted((MONITORING / "prometheus/rules").glob("*.yml")) for group in load(path)[0]["groups"]]


def queries_of(path, board):
    """Where it stands and what it asks, for everything a dashboard asks of Prometheus; its variables say "all"."""
    targets = [(panel["title"], target) for panel in board["panels"] for target in panel.get("targets", [])]
    variables = re.compile(r"\$(" + "|".join(variable["name"] for variable in board["templating"]["list"]) + r")\b")
    return [(f"{path.name}: {title}", variables.sub(".*", target["expr"])) for title, target in targets if target["datasource"]["type"] == "prometheus"]


def asked(expression):
    """The metrics an expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    names = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w*\s*\()", bare)
    return {name for name in names if name.lower() not in WORDS and not re.search(rf"\b{re.escape(name)}\s*\(", bare)}


def selectors(expression):
    """What an expression selects: each metric with its matchers."""
    each = lambda name: re.findall(rf"(?<![\w:]){re.escape(name)}(?![\w:])(\{{[^}}]*\}})?", expression)
    return {name + matchers for name in asked(expression) for matchers in each(name)}
