"""Runs the fleet and the demo with some failing requests, lets a real Prometheus scrape it, and checks that each selector in the queries of
all dashboards, recording rules and alerts finds series.

usage: live.py PROMETHEUS FLEET
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml
from common import SERVICES, check, finish, load, reserve_port
from queries import DASHBOARDS, MONITORING, OUTSIDE, groups_of_rules, queries_of, selectors

PATIENCE = 60

# Series that a healthy fleet in one process on embedded engines does not have, with the reason. A listed series that exists is an error.
NO_SERVER_ERROR = "a healthy fleet has no such response; recording rules read a missing series as 0"
NOTHING_CORRUPT = "a healthy fleet has no corrupt data; the alert counts a new series as an increase"
ABSENT = {
    'http_server_requests_seconds_count{status="500"}': NOTHING_CORRUPT,
    'events_consumed_total{outcome="corrupt"}': NOTHING_CORRUPT,
    'events_consumed_total{outcome="newer-version"}': "the fleet has one release; the alert counts a new series as an increase",
    'http_server_requests_seconds_count{uri!~"/actuator.*", outcome="SERVER_ERROR"}': NO_SERVER_ERROR,
    **{f'http_server_requests_seconds_count{{application="{name}-service", outcome="SERVER_ERROR", uri!~"/actuator.*", instance=~".*"}}': NO_SERVER_ERROR for name in SERVICES},
}


def ask(url, body=None, headers=None):
    """The status and text of an answer; a status of 4xx or 5xx is an answer too."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_for(what, holds):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if found := holds():
                return found
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.1)


def settled(holds):
    """Waits for what comes by itself; who asks afterwards finds whether it has."""
    try:
        wait_for("it settles", holds)
    except TimeoutError:
        pass


class Process:
    """A program and its log; it is ended by its pid."""

    def __init__(self, command, log, **more):
        self.log = Path(log)
        self.process = subprocess.Popen(command, stdout=self.log.open("w"), stderr=subprocess.STDOUT, **more)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if error[0]:
            print(self.log.read_text()[-3000:], file=sys.stderr)


def play(fleet, at):
    """Runs the demo and sends requests that fail."""
    subprocess.run([fleet, "demo", *(f"--{name}={at[name]}" for name in SERVICES if name != "config")], check=True, capture_output=True)
    stranger = {"Authorization": "Bearer nobody-of-this-fleet", "email": "nobody@example.com+kakao"}
    post = lambda url, **fields: ask(url, urllib.parse.urlencode(fields).encode(), stranger)
    ask(f"{at['config']}/config-service/feed-config/default", headers=stranger)
    ask(f"{at['auth']}/auth-service/introspect", b"{}", {**stranger, "Content-Type": "application/json"})
    post(f"{at['auth']}/auth-service/signIn", email="x@example.com", provider="kakao", providerId="x", codeVerifier="x" * 20, authorizeCode="x", deviceToken="x")
    ask(f"{at['auth']}/auth-service/reIssueToken", headers={**stranger, "Authorization-refresh": "Bearer nobody"})
    post(f"{at['feed']}/feed-service/findDayFeed", nickname="nobody", date="2026010112000000")


def configured(folder, ports, port):
    """Writes the repository's settings of Prometheus with other addresses and shorter intervals; returns the file."""
    settings = load(MONITORING / "prometheus/prometheus.yml")[0]
    settings["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    settings["rule_files"] = [str(MONITORING / "prometheus/rules/*.yml")]
    jobs = {job["job_name"]: job for job in settings["scrape_configs"]}
    for entry in jobs["sosohappy"]["static_configs"]:
        entry["targets"] = [f"127.0.0.1:{ports[entry['labels']['service']]}"]
    jobs["prometheus"]["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    settings["scrape_configs"] = [jobs["sosohappy"], jobs["prometheus"]]
    path = Path(folder) / "prometheus.yml"
    path.write_text(yaml.safe_dump(settings))
    return path


class Prometheus:
    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path, **parameters):
        status, text = ask(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(text)
        if status != 200:
            raise ValueError(answer.get("error", text))
        return answer["data"]

    def has(self, selector):
        return bool(self.get("series", **{"match[]": selector}))

    def down(self):
        """The targets whose last scrape failed, and why."""
        return [f"{target['scrapeUrl']}: {target['lastError']}" for target in self.get("targets")["activeTargets"] if target["health"] != "up"]

    def unhealthy(self):
        """The rules whose last evaluation failed, or that had none yet."""
        rules = [rule for group in self.get("rules")["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule['health']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]

    def scrapes(self):
        """Returns the smallest number of scrapes of a target of the fleet."""
        found = self.get("query", query='min(count_over_time(up{job="sosohappy"}[5m]))')["result"]
        return int(found[0]["value"][1]) if found else 0


def hold(prometheus):
    queries = [(rule.get("record") or rule["alert"], rule["expr"]) for group in groups_of_rules() for rule in group["rules"]]
    for path in DASHBOARDS:
        queries += queries_of(path, json.loads(path.read_text()))
    asked, absent = {}, set()
    for where, expression in queries:
        try:
            prometheus.get("query", query=expression)
        except ValueError as error:
            check(False, f"{where}: {error}")
        for selector in selectors(expression):
            asked.setdefault(selector, where)
    # Metrics of queued work appear some time after the request.
    wanted = [selector for selector in asked if not selector.startswith(tuple(OUTSIDE)) and selector not in ABSENT]
    settled(lambda: all(prometheus.has(selector) for selector in wanted))
    for selector, where in sorted(asked.items()):
        if selector.startswith(tuple(OUTSIDE)):
            absent.add(selector)
        elif prometheus.has(selector):
            check(selector not in ABSENT, f"{selector} is said to be absent, and is there")
        elif check(selector in ABSENT, f"{where}: nothing is {selector}"):
            absent.add(selector)
    check(ABSENT.keys() <= asked.keys(), f"no query asks for {sorted(ABSENT.keys() - asked.keys())}")
    # One scrape or evaluation may fail on a busy machine; not each.
    for troubles in (prometheus.unhealthy, prometheus.down):
        settled(lambda: not troubles())
        for trouble in troubles():
            check(False, trouble)
    return len(queries), len(asked), len(absent)


def main():
    prometheus_binary, fleet = sys.argv[1:]
    ports = {name: reserve_port() for name in SERVICES}
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    environment = os.environ | {f"SOSOHAPPY_{name.upper()}__SERVER__PORT": str(port) for name, port in ports.items()} | {"SOSOHAPPY_ENTRY": "off"}
    # With the default, a busy machine answers 503 to people whom the topics have not brought yet.
    environment |= {f"SOSOHAPPY_{name}__ACCESS__INTROSPECTION_TIMEOUT": "10s" for name in ("FEED", "DM", "NOTICE")}
    port = reserve_port()
    with tempfile.TemporaryDirectory() as folder:
        prometheus = Prometheus(port)
        command = [prometheus_binary, f"--config.file={configured(folder, ports, port)}", f"--storage.tsdb.path={folder}/series", f"--web.listen-address=127.0.0.1:{port}"]
        with Process([fleet, "run", "--data", f"{folder}/data"], f"{folder}/fleet.log", env=environment):
            for name, address in at.items():
                wait_for(f"{name} is ready", lambda: ask(f"{address}/actuator/health/readiness")[0] == 200)
            with Process(command, f"{folder}/prometheus.log"):
                # Once before and once between scrapes, so that Prometheus sees every counter increase.
                play(fleet, at)
                wait_for("Prometheus scrapes the fleet", lambda: prometheus.scrapes() >= 3)
                play(fleet, at)
                seen = prometheus.scrapes()
                wait_for("the rules are evaluated", lambda: prometheus.scrapes() >= seen + 4)
                queries, asked, absent = hold(prometheus)
    finish(f"{queries} queries, {asked} selectors: all find series except {absent}, which are listed with the reason")


main()
