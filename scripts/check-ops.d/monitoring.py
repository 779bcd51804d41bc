"""Compares rules, alerts, dashboards and runbook with each other and with the metrics that the code declares.

usage: monitoring.py PROMTOOL [--write]    --write renews k8s/components/monitoring/rules.yaml
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from common import ROOT, SERVICES, check, finish, load
from queries import DASHBOARDS, MONITORING, OUTSIDE, asked, groups_of_rules, queries_of
WRAPPED = ROOT / "k8s/components/monitoring/rules.yaml"
# Metrics of Prometheus itself, and of the prometheus crate's process collector.
GIVEN = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds", "process_threads"}


def declared():
    """Returns every metric name that the code registers, as it is exposed."""
    names = set(GIVEN)
    for path in [*ROOT.glob("crates/*/src/**/*.rs"), *ROOT.glob("services/*/src/**/*.rs")]:
        text = path.read_text().split("#[cfg(test)]")[0]
        if "use prometheus::" not in text:
            continue
        literals = set(re.findall(r'"([a-z]+(?:_[a-z]+)+|[a-z]+_total)"', text))
        names |= literals
        if "Histogram" in text:
            # Only the name of a histogram ends in the unit.
            names |= {f"{name}{suffix}" for name in literals if name.endswith("_seconds") for suffix in ("_bucket", "_count", "_sum")}
        if '"{name}_max"' in text:
            names.add("http_server_requests_seconds_max")
    return names


def main():
    promtool, write = sys.argv[1], "--write" in sys.argv
    groups = groups_of_rules()
    rules = [rule for group in groups for rule in group["rules"]]
    records = {rule["record"] for rule in rules if "record" in rule}
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    known = declared() | records

    queries = [(rule.get("record") or rule["alert"], rule["expr"]) for rule in rules]
    check({path.stem for path in DASHBOARDS} >= {"fleet", *SERVICES}, f"dashboards are {[path.stem for path in DASHBOARDS]}")
    sources = {source["uid"] for source in load(MONITORING / "grafana/provisioning/datasources/sosohappy.yaml")[0]["datasources"]}
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        check(board["uid"] == path.stem, f"{path.name}: the uid is {board['uid']}")
        ids = [panel["id"] for panel in board["panels"]]
        check(len(ids) == len(set(ids)), f"{path.name}: two panels have the same id")
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                check(target["datasource"]["uid"] in sources, f"{path.name}: {panel['title']}: no data source {target['datasource']['uid']}")
            if panel["type"] != "row":
                said = panel["fieldConfig"]["defaults"].get("unit") and panel.get("description") and panel.get("targets")
                check(said, f"{path.name}: {panel['title']}: unit, description or query is missing")
        variables = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$(?!__)(\w+)", " ".join(target.get("expr", "") for panel in board["panels"] for target in panel.get("targets", []))))
        check(used == variables and (variables or path.stem == "mysql"), f"{path.name}: has the variables {sorted(variables)}, uses {sorted(used)}")
        queries += queries_of(path, board)
    for where, expression in queries:
        unknown = {name for name in asked(expression) - known if not name.startswith(tuple(OUTSIDE))}
        check(not unknown, f"{where}: unknown metrics {sorted(unknown)}")
        for application in re.findall(r'application="([^"]*)"', expression):
            check(application.removesuffix("-service") in SERVICES and application.endswith("-service"), f"{where}: no application {application}")

    # Checks the syntax of all queries, including those of dashboards.
    namespace = load(ROOT / "k8s/overlays/outside/kustomization.yaml")[0]["namespace"]
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "queries.yml"
        listed = [{"record": f"query:{number}", "expr": expression} for number, (_, expression) in enumerate(queries)]
        path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": listed}]}))
        said = subprocess.run([promtool, "check", "rules", str(path)], text=True, capture_output=True)
        check(said.returncode == 0, f"queries: {said.stdout}{said.stderr}")
        said = subprocess.run([promtool, "check", "config", str(MONITORING / "prometheus/prometheus.yml")], text=True, capture_output=True)
        check(said.returncode == 0, f"prometheus.yml: {said.stdout}{said.stderr}")
        # Debian's Prometheus is built without the discovery of Kubernetes, so the tool sees everything but that part; the rules are on another machine.
        outside = load(MONITORING / "prometheus/outside.yml")[0]
        for job in outside["scrape_configs"]:
            for found in job.pop("kubernetes_sd_configs", []):
                check(found["role"] == "pod" and found["namespaces"] == {"names": [namespace]}, f"outside.yml: {job['job_name']} looks for {found}")
                check({"api_server", "authorization", "tls_config"} <= found.keys(), f"outside.yml: {job['job_name']} cannot ask an API server from outside")
                job["static_configs"] = []
        (Path(work) / "outside.yml").write_text(yaml.safe_dump(outside))
        said = subprocess.run([promtool, "check", "config", "--syntax-only", str(Path(work) / "outside.yml")], text=True, capture_output=True)
        check(said.returncode == 0, f"outside.yml: {said.stdout}{said.stderr}")
        jobs = [{job["job_name"] for job in load(MONITORING / "prometheus" / name)[0]["scrape_configs"]} for name in ("prometheus.yml", "outside.yml")]
        check(jobs[0] == jobs[1], f"outside.yml: the jobs are {jobs[1]}, the rules ask for {jobs[0]}")

    sections = re.findall(r"^## (\S+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    check(sections == list(alerts), f"docs/runbook.md and the alerts differ: {sorted(set(sections) ^ set(alerts))}, or their order does")
    fired = set()
    for path in sorted((MONITORING / "prometheus/tests").glob("*.yml")):
        for test in load(path)[0]["tests"]:
            for case in test["promql_expr_test"]:
                for sample in case["exp_samples"]:
                    fired |= set(re.findall(r'alertname="(\w+)"', sample["labels"]))
    check(fired == set(alerts), f"alerts without a test {sorted(set(alerts) - fired)}; tests of unknown alerts {sorted(fired - set(alerts))}")
    for name, rule in alerts.items():
        check(rule["labels"] in ({"severity": "page"}, {"severity": "ticket"}), f"{name}: the severity is neither page nor ticket")
        check(rule["annotations"].get("runbook_url") == f"docs/runbook.md#{name.lower()}", f"{name}: wrong runbook_url")
        check({"summary", "description"} <= rule["annotations"].keys(), f"{name}: summary or description is missing")

    wrapped = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "fleet"}, "spec": {"groups": groups}}
    header = "# Made of monitoring/prometheus/rules by `scripts/check-ops --write`; change those.\n"
    text = header + yaml.safe_dump(wrapped, sort_keys=False, width=1000, allow_unicode=True)
    if write:
        WRAPPED.write_text(text)
    check(WRAPPED.exists() and WRAPPED.read_text() == text, "k8s/components/monitoring/rules.yaml differs from monitoring/prometheus/rules: run scripts/check-ops --write")
    finish(f"{len(records)} recording rules, {len(alerts)} alerts, {len(DASHBOARDS)} dashboards, {len(queries)} queries, all metrics exist")


main()
