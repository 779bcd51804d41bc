"""Builds every composition of k8s/, validates it strictly, and checks the rendered objects against the rules below.

usage: manifests.py KUSTOMIZE DEFINITIONS STRIMZI    the folder of the CustomResourceDefinitions, and the file to which the
                                                     resources of Strimzi go, one a line: its own classes read them next
"""

import copy
import json
import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
from common import ROOT, SERVICES, check, complaints, finish, load, parse, partitions, seconds, setting_of, settings
from compositions import K8S, compositions

VERSIONS = ("1.30", "1.33", "1.37")
# Kinds that operators define; no validator bundles them.
CUSTOM = re.compile(r"(argoproj\.io|external-secrets\.io|gateway\.networking\.k8s\.io|keda\.sh|monitoring\.coreos\.com|(networking|security)\.istio\.io)/")
STRIMZI = "kafka.strimzi.io/v1"
# Host and port of each database URL in a Secret; `scripts/deploy secrets` writes the URLs.
BEHIND_SECRETS = {"auth-database": ("mysql", 3306), "feed-database": ("mysql", 3306), "dm-messages": ("mongodb", 27017), "notice-inbox": ("mongodb", 27017)}
# Ports between brokers: clients and controllers of Kafka's own image, and of Strimzi's.
KAFKA_PORTS = {False: (9092, 9093), True: (9090, 9091, 9092)}
NAME = "app.kubernetes.io/name"
COLOUR = "sosohappy/colour"
WAVE = "argocd.argoproj.io/sync-wave"
# The services that a load balancer routes to, as the launcher's entry does; config is reachable inside the cluster only.
ENTRY = (ROOT / "crates/fleet/src/entry.rs").read_text()
PUBLIC = set(re.findall(r'"([a-z]+)-service"', re.search(r"const PUBLIC.*?];", ENTRY, re.DOTALL)[0]))
# Routes without a time limit.
SOCKETS = {"/dm-service/connect-dm", "/notice-service/connect-notice"}
# A body may take this long and then an answer: it is the service that says no, not who stands before it.
ANSWERED_WITHIN = sum(seconds(settings("feed")[f"server.{key}-timeout"]) for key in ("body", "request"))
# Bytes: an idle service (measured: at most 38 MiB), a socket (docs/performance.md: at most 12 KiB), a live token in the registry
# (a_million_tokens_take_at_most_96_bytes_each), and how many of these a replica must have room for.
IDLE, SOCKET, TOKEN, TOKENS = 40 * 2**20, 12 * 2**10, 96, 1_000_000
# Allowed traffic to and from anything but the fleet's own pods: NetworkPolicy, direction, peers, ports.
IN_MONITORING = "namespace kubernetes.io/metadata.name=monitoring"
DNS = "namespace kubernetes.io/metadata.name=kube-system, pods k8s-app=kube-dns"
# The machines of overlay `outside`, and the balancer outside of component `load-balancer`.
ADDRESS = dict(line.split("=") for line in (K8S / "overlays/outside/outside.env").read_text().split() if re.fullmatch(r"[A-Z]+=[\d.]+", line))
WORLD = "0.0.0.0/0 but 10.0.0.0/8 100.64.0.0/10 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16"
OUTSIDE = {
    ("names", "egress", DNS, (53, 53)),
    ("from-prometheus", "ingress", IN_MONITORING, ("http",)),
    ("mongodb-from-prometheus", "ingress", IN_MONITORING, ("metrics",)),
    ("mysql-from-grafana", "ingress", f"{IN_MONITORING}, pods app.kubernetes.io/name=grafana", (3306,)),
    ("from-gateway", "ingress", "namespace sosohappy/gateway=true", ("http",)),
    ("object-store", "egress", WORLD, (443,)),
    ("sign-in-providers", "egress", WORLD, (443,)),
    ("push-providers", "egress", WORLD, (443,)),
    ("mail-server", "egress", WORLD, (465, 587)),
    ("collector", "ingress", IN_MONITORING, (8888,)),
    ("collector", "egress", IN_MONITORING, (4318,)),
    ("mesh", "ingress", "namespace kubernetes.io/metadata.name=istio-ingress", ("http",)),
    ("mesh", "egress", "namespace kubernetes.io/metadata.name=istio-system", (15012,)),
    ("strimzi", "ingress", "namespace sosohappy/strimzi=true", (8080, 8443, 9090, 9091)),
    # The cluster's own API, for the topic operator.
    ("strimzi", "egress", "0.0.0.0/0", (443, 6443)),
    ("entry", "ingress", f"{ADDRESS['BALANCER']}/32", (8889, 8890, 8891, 8892)),
    ("kafka-outside", "egress", f"{ADDRESS['KAFKA']}/32", (9092,)),
    ("from-prometheus-outside", "ingress", f"{ADDRESS['PROMETHEUS']}/32", ("http",)),
    ("mongodb-from-prometheus-outside", "ingress", f"{ADDRESS['PROMETHEUS']}/32", ("metrics",)),
    ("mysql-from-grafana-outside", "ingress", f"{ADDRESS['GRAFANA']}/32", (3306,)),
    ("fluent-bit", "ingress", IN_MONITORING, (2020,)),
    ("fluent-bit", "egress", DNS, (53, 53)),
    ("fluent-bit", "egress", IN_MONITORING, (3100,)),
}
# Workloads that Pod Security "restricted" would refuse: the log collector reads files of its node, which belong to root.
NODE_READERS = {"fluent-bit": {"/var/log", "/var/lib/sosohappy-fluent-bit"}}


@cache
def definition(version, kind):
    """Returns the schema of a kind, made strict: unknown properties are refused. Cached beside the definitions, which take long to read."""
    kept = Path(sys.argv[2]) / "kept" / f"{version.replace('/', '-')}-{kind}.json"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(defined(*version.split("/"), kind)))
    return json.loads(kept.read_text())


def defined(group, version, kind):
    for path in Path(sys.argv[2]).rglob("*.yaml"):
        text = path.read_text()
        if f"kind: {kind}\n" not in text or group not in text:
            continue
        for found in parse(text):
            spec = found.get("spec", {})
            if found["kind"] == "CustomResourceDefinition" and spec["group"] == group and spec["names"]["kind"] == kind:
                for offered in spec["versions"]:
                    if offered["name"] == version and offered["served"]:
                        schema = offered["schema"]["openAPIV3Schema"]
                        schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object", "required": ["name"]}}
                        return strict(schema)
    return None


def strict(schema):
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: {name: strict(part) for name, part in value.items()} if key == "properties" else strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


class Composition:
    seen, outside_seen = set(), set()

    def __init__(self, title, objects):
        self.title, self.objects = title, objects

    def of(self, *kinds):
        return [item for item in self.objects if item["kind"] in kinds]

    def check(self, holds, thing, words):
        return check(holds, f"{self.title}: {thing['kind']} {thing['metadata']['name']}: {words}")

    def pods(self):
        pods = [(item, item["spec"]["template"]) for item in self.of("Deployment", "StatefulSet", "DaemonSet", "Job")]
        return pods + [(item, item["spec"]["jobTemplate"]["spec"]["template"]) for item in self.of("CronJob")]

    def labels(self):
        """Returns the labels of all pods, including those that Strimzi creates for a node pool."""
        brokers = [{NAME: "kafka", **item["metadata"]["labels"]} for item in self.of("KafkaNodePool") if "broker" in item["spec"]["roles"]]
        return [template["metadata"]["labels"] for _, template in self.pods()] + brokers

    def of_services(self):
        """Returns the Deployment of each service, of any colour."""
        return {item["metadata"]["labels"][NAME]: item for item in self.of("Deployment") if item["metadata"]["labels"].get("app.kubernetes.io/component") == "service"}

    def settings_of(self, workload):
        """Returns the environment of the first container with the values of ConfigMaps; a value from a Secret is its reference."""
        maps = {item["metadata"]["name"]: item.get("data", {}) for item in self.of("ConfigMap")}
        container = workload["spec"]["template"]["spec"]["containers"][0]
        found = {}
        for source in container.get("envFrom", []):
            if "configMapRef" in source and self.check(source["configMapRef"]["name"] in maps, workload, f"no ConfigMap {source['configMapRef']['name']}"):
                found |= maps[source["configMapRef"]["name"]]
        for variable in container.get("env", []):
            found[variable["name"]] = variable.get("value") or variable.get("valueFrom", {}).get("secretKeyRef")
        return found

    def all(self):
        self.valid()
        self.unique()
        self.restricted()
        self.selectors()
        self.outside()
        if not self.title.endswith(" alone"):
            self.services()
            self.sizes()
            self.scaling()
            self.edges()
            self.routes()
            self.waves()
        for item in self.of("Secret"):
            self.check(False, item, "the repository must not contain a Secret")

    def valid(self):
        for item in self.objects:
            # Compositions have most objects in common.
            text = json.dumps(item, sort_keys=True)
            if text in Composition.seen:
                continue
            Composition.seen.add(text)
            if item["apiVersion"] == STRIMZI:
                continue
            if CUSTOM.match(item["apiVersion"]):
                schema = definition(item["apiVersion"], item["kind"])
                if self.check(schema, item, f"{item['apiVersion']} does not define this kind"):
                    for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
                        self.check(False, item, f"not valid: {error.json_path}: {error.message}")
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(item, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    self.check(False, item, f"not valid in {version}: {error.message}")

    def unique(self):
        seen = set()
        for item in self.objects:
            key = (item["apiVersion"], item["kind"], item["metadata"]["name"])
            self.check(key not in seen, item, "is defined twice")
            seen.add(key)

    def restricted(self):
        """Pod Security "restricted", and more."""
        priorities = {item["metadata"]["name"] for item in self.of("PriorityClass")}
        for workload, template in self.pods():
            pod = template["spec"]
            context = pod.get("securityContext", {})
            tell = lambda holds, words: self.check(holds, workload, words)
            reads = NODE_READERS.get(workload["metadata"]["name"])
            tell(reads or context.get("runAsNonRoot") is True and context.get("runAsUser", 0) > 0, "must not run as root")
            tell(context.get("seccompProfile", {}).get("type") == "RuntimeDefault", "no seccomp profile")
            tell(pod.get("automountServiceAccountToken") is False, "mounts a service account token")
            tell(pod.get("enableServiceLinks") is False, "enableServiceLinks is not false")
            tell(not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), "shares a namespace of the host")
            tell(pod.get("priorityClassName") in priorities, f"its priority class is not one of {sorted(priorities)}")
            allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
            for volume in pod.get("volumes", []):
                of_node = volume.get("hostPath", {}).get("path")
                tell(set(volume) - {"name"} <= allowed or of_node in (reads or ()), f"volume {volume['name']} has a type that is not allowed")
            for container in pod.get("initContainers", []) + pod["containers"]:
                own = container.get("securityContext", {})
                words = f"container {container['name']}: "
                tell(own.get("allowPrivilegeEscalation") is False, words + "may gain privileges")
                tell(own.get("capabilities", {}).get("drop") == ["ALL"], words + "keeps capabilities")
                for mount in container.get("volumeMounts", []):
                    tell(mount["mountPath"] != "/var/log" or mount.get("readOnly"), words + "can write the logs of its node")
                tell(own.get("readOnlyRootFilesystem") is True or container["name"] == "kafka", words + "its root file system is writable")
                tell({"cpu", "memory"} <= set(container["resources"].get("requests", {})), words + "has no requests")
                tell("memory" in container["resources"].get("limits", {}), words + "has no memory limit")
                tell(not container["image"].endswith(":latest"), words + "the image has no fixed version")

    def services(self):
        deployments = self.of_services()
        if not check(deployments.keys() == SERVICES.keys(), f"{self.title}: the services are {sorted(deployments)}"):
            return
        for name, deployment in deployments.items():
            tell = lambda holds, words: self.check(holds, deployment, words)
            pod = deployment["spec"]["template"]["spec"]
            server = pod["containers"][0]
            known, environment = settings(name), self.settings_of(deployment)
            for variable in environment:
                key = setting_of(variable, name)
                tell(key in known or variable in ("SOSOHAPPY_SERVICE_TOKEN", "SOSOHAPPY_OPERATOR_TOKEN"), f"{variable} is not one of its settings")
            effective = lambda key: environment.get(f"SOSOHAPPY_{name.upper()}__{key.upper().replace('.', '__').replace('-', '_')}", known[key])

            tell(server["ports"] == [{"name": "http", "containerPort": known["server.port"]}], "its port differs from its settings")
            tell(known["server.port"] == SERVICES[name], "its port is not the one of the contract")
            tell(effective("server.host") == "0.0.0.0", "listens on loopback only")
            for probe, what in (("startupProbe", "liveness"), ("livenessProbe", "liveness"), ("readinessProbe", "readiness")):
                tell(server[probe]["httpGet"] == {"path": f"/actuator/health/{what}", "port": "http"}, f"{probe} has another path or port")
            scraped = {"scrape": "true", "path": "/actuator/prometheus", "port": str(known["server.port"])}
            annotations = deployment["spec"]["template"]["metadata"].get("annotations", {})
            tell({f"prometheus.io/{key}": value for key, value in scraped.items()}.items() <= annotations.items(), "its annotations for Prometheus are missing or wrong")
            stop = server["lifecycle"]["preStop"]["sleep"]["seconds"]
            # Beyond the budget: one second for tasks to unwind, one for the runtime.
            need = stop + seconds(effective("server.drain-delay")) + seconds(effective("server.drain-budget")) + 2
            tell(pod["terminationGracePeriodSeconds"] > need, f"terminationGracePeriodSeconds is too short: graceful shutdown takes {need:g} s")
            tell(seconds(effective("server.drain-delay")) > 0, "server.drain-delay is 0: load balancers still send requests to a closed port")
            strategy = deployment["spec"]["strategy"]
            tell(strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}, "a roll-out reduces the number of replicas")
            tell({spread["topologyKey"] for spread in pod["topologySpreadConstraints"]} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, "is not spread over nodes and zones")
            tell(pod["serviceAccountName"] == name, "has no ServiceAccount of its own")
            tell(pod["priorityClassName"] == ("sosohappy-config" if name == "config" else "sosohappy-fleet"), "has a wrong priority class")
            tell("replicas" not in deployment["spec"] or not self.of("HorizontalPodAutoscaler"), "sets replicas beside an autoscaler")
            if name == "config" and not self.title.startswith("dev"):
                # Environment variables of services are refused above: `flags.fault.…` is none of their settings.
                tell(effective("check.fault-flags") == "refuse", "accepts fault switches in production")
            if name in ("auth", "feed"):
                scheme = effective("images.url").split(":")[0]
                tell(scheme in (("file",) if self.title.startswith("dev") else ("s3", "gs")), "several replicas need one image store")

    def sizes(self):
        """Checks that a replica has memory for everything its settings admit, and that the autoscaler adds another before it is full."""
        targets = {}
        for scaler in self.of("HorizontalPodAutoscaler"):
            targets[scaler["spec"]["scaleTargetRef"]["name"]] = {entry["resource"]["name"]: entry["resource"]["target"].get("averageValue") for entry in scaler["spec"]["metrics"]}
        for scaler in self.of("ScaledObject"):
            targets[scaler["spec"]["scaleTargetRef"]["name"]] = {entry["type"]: entry["metadata"]["value"] for entry in scaler["spec"]["triggers"] if entry["type"] in ("cpu", "memory")}
        for name, deployment in self.of_services().items():
            known, resources = settings(name), deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
            asked, limit = {key: quantity(value) for key, value in resources["requests"].items()}, quantity(resources["limits"]["memory"])
            need = IDLE + known["server.upload-memory"] + known["server.response-memory"]
            need += SOCKET * known.get("sockets.total", 0) + TOKEN * TOKENS * ("access.token-lifetime" in known)
            self.check(limit >= need, deployment, f"its settings admit {need / 2**20:.0f} MiB, more than its memory limit")
            if target := targets.get(deployment["metadata"]["name"]):
                self.check(asked["memory"] < quantity(target["memory"]) <= 0.7 * limit, deployment, f"the autoscaler's memory target {target['memory']} is not between request and 70 % of the limit")
                self.check(asked["cpu"] < quantity(target["cpu"]), deployment, f"the autoscaler's CPU target {target['cpu']} is not above the request")

    def scaling(self):
        """Checks the autoscalers: at most as many replicas as partitions, and one for every service of a cluster."""
        workloads = {(item["kind"], item["metadata"]["name"]) for item in self.of("Deployment", "StatefulSet", "Rollout")}
        scaled, colour = set(), {item["metadata"]["labels"].get(COLOUR) for item in self.of_services().values()}
        for scaler in self.of("HorizontalPodAutoscaler", "ScaledObject"):
            spec, keda = scaler["spec"], scaler["kind"] == "ScaledObject"
            least, most = (spec["minReplicaCount"], spec["maxReplicaCount"]) if keda else (spec["minReplicas"], spec["maxReplicas"])
            self.check(most <= partitions(), scaler, f"more consumers than the {partitions()} partitions of a topic")
            self.check(least >= 2, scaler, "fewer than two replicas")
            target = spec["scaleTargetRef"]
            self.check((target["kind"], target["name"]) in workloads, scaler, "its target does not exist")
            self.check(target["name"] not in scaled, scaler, "its target has two autoscalers")
            scaled.add(target["name"])
            for trigger in spec["triggers"] if keda else []:
                asked = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b(?=\{)", trigger["metadata"].get("query", "")))
                self.check(asked <= {"events_consumer_lag_records", "sosohappy_sockets_open"}, scaler, f"queries {sorted(asked)}")
        check(len(colour) == 1, f"{self.title}: several colours: {colour}")
        if not self.title.startswith("dev"):
            suffix = f"-{colour.pop()}" if colour != {None} else ""
            check({name + suffix for name in SERVICES} <= scaled, f"{self.title}: only {sorted(scaled)} are scaled")
            budgets = {item["metadata"]["name"] for item in self.of("PodDisruptionBudget")}
            check(SERVICES.keys() <= budgets, f"{self.title}: not every service has a PodDisruptionBudget")
        services = {item["metadata"]["name"] for item in self.of("Service")}
        templates = {item["metadata"]["name"] for item in self.of("AnalysisTemplate")}
        for rollout in self.of("Rollout"):
            spec = rollout["spec"]
            colours = spec["strategy"]["blueGreen"]
            self.check(("Deployment", spec["workloadRef"]["name"]) in workloads, rollout, "its Deployment does not exist")
            self.check({colours["activeService"], colours["previewService"]} <= services, rollout, "a Service is missing")
            for analysis in ("prePromotionAnalysis", "postPromotionAnalysis"):
                self.check({entry["templateName"] for entry in colours[analysis]["templates"]} <= templates, rollout, f"{analysis} does not exist")
        if self.of("Rollout"):
            check({item["metadata"]["name"] for item in self.of("Rollout")} == SERVICES.keys(), f"{self.title}: not every service is a Rollout")

    def edges(self):
        """Checks that the network policies allow exactly the connections that the fleet uses."""
        pods = {labels[NAME]: labels for labels in self.labels()}
        policies = [item for item in self.of("NetworkPolicy")]
        check(any(item["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for item in policies), f"{self.title}: no default deny policy")

        def allowed(direction, peers):
            found = set()
            for policy in policies:
                for rule in policy["spec"].get(direction, []):
                    ends = [peer["podSelector"] for peer in rule.get(peers, []) if set(peer) == {"podSelector"}]
                    self.check(rule.get(peers) and rule.get("ports"), policy, "a rule without peers or ports allows everything")
                    for me in pods:
                        if matches(policy["spec"]["podSelector"], pods[me]):
                            for other in pods:
                                if any(matches(end, pods[other]) for end in ends):
                                    found |= {(me, other, port["port"] if port["protocol"] == "TCP" else f"{port['protocol']} {port['port']}") for port in rule["ports"]}
            return found

        may = allowed("egress", "to")
        heard = {(other, me, port) for me, other, port in allowed("ingress", "from")}
        used = {("mongodb", "mongodb", 27017)}
        if "kafka" in pods:
            used |= {("kafka", "kafka", port) for port in KAFKA_PORTS[bool(self.of("Kafka"))]}
        broker = lambda name, url: (name, *to_port(url.removeprefix("kafka:")))
        for job in self.of("Job"):
            for argument in job["spec"]["template"]["spec"]["containers"][0]["args"]:
                if argument.startswith("--url=kafka:"):
                    used.add(broker(job["metadata"]["name"], argument.removeprefix("--url=")))
        for job in self.of("CronJob"):
            variables = {variable["name"]: variable.get("value") for variable in job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]}
            used.add((job["metadata"]["name"], *to_port(variables["ENGINE"])))
        for name, deployment in self.of_services().items():
            for variable, value in self.settings_of(deployment).items():
                if isinstance(value, dict):
                    if value["name"] in BEHIND_SECRETS:
                        used.add((name, *BEHIND_SECRETS[value["name"]]))
                elif variable.endswith("__EVENTS__URL"):
                    used.add(broker(name, value))
                elif variable.endswith(("__CONFIG__URL", "__AUTH_URL", "__OTLP_ENDPOINT")):
                    url = urlsplit(value)
                    used.add((name, url.hostname, url.port))
        for _, host, port in self.forwarded():
            used.add(("entry", host, port))
        # Brokers outside are no pods: `outside` checks the way to them.
        used = {edge for edge in used if edge[1] != "kafka" or "kafka" in pods}
        # Outbox hints between the replicas of a service; config has no outbox.
        hints = {(name, name, f"UDP {SERVICES[name]}") for name in self.of_services() if name != "config"}
        # The same edges for a mesh, by identity; it does not carry UDP.
        callers = {item["spec"]["selector"]["matchLabels"].get(NAME): item["spec"]["rules"] for item in self.of("AuthorizationPolicy") if "selector" in item["spec"]}
        if callers:
            let_in = {(account, me) for me, rules in callers.items() for rule in rules for end in rule.get("from", []) for account in end["source"].get("serviceAccounts", [])}
            calls = {(one, other) for one, other, _ in used if one in SERVICES and other in SERVICES}
            check(let_in == calls, f"{self.title}: the mesh allows {sorted(let_in)}, used are {sorted(calls)}")
        used |= hints
        check(may == used, f"{self.title}: egress allowed but not used {sorted(may - used)}, used but not allowed {sorted(used - may)}")
        check(heard == used, f"{self.title}: ingress allowed but not used {sorted(heard - used)}, used but not allowed {sorted(used - heard)}")

    def outside(self):
        """Checks that no namespaces or addresses but those listed above are allowed."""
        for policy in self.of("NetworkPolicy"):
            for direction, end in (("ingress", "from"), ("egress", "to")):
                for rule in policy["spec"].get(direction, []):
                    # Without the protocol each apply patches the default of the server.
                    self.check(all("protocol" in port for port in rule.get("ports", [])), policy, "a port without its protocol")
                    for peer in rule.get(end, []):
                        edge = (policy["metadata"]["name"], direction, described(peer), tuple(port.get("port") for port in rule.get("ports", [])))
                        if set(peer) != {"podSelector"}:
                            self.check(edge in OUTSIDE, policy, f"{direction} {edge[2]} on {edge[3]} is not listed")
                            Composition.outside_seen.add(edge)

    def waves(self):
        """Checks the order of Argo CD: objects that a pod refers to come before it, config before the other services, targets before autoscalers."""
        wave = lambda item: int(item["metadata"].get("annotations", {}).get(WAVE, 0))
        services = self.of_services()
        if not any(wave(item) for item in self.objects):
            return
        steps = [self.of("StatefulSet"), self.of("Job"), [services["config"]], [item for name, item in services.items() if name != "config"], self.of("HorizontalPodAutoscaler")]
        before = [item for item in self.objects if not any(item in step for step in steps)]
        for step in steps:
            for item in step:
                late = [other for other in before if wave(other) >= wave(item)]
                self.check(not late, item, f"wave {wave(item)} is not after {sorted({other['kind'] for other in late})}")
            before = before + step

    def selectors(self):
        templates = self.labels()
        slices = {item["metadata"]["labels"]["kubernetes.io/service-name"] for item in self.of("EndpointSlice")}
        for item in self.of("Service"):
            if "selector" not in item["spec"]:
                self.check(item["metadata"]["name"] in slices, item, "has neither a selector nor an EndpointSlice")
                continue
            meant = [labels for labels in templates if item["spec"]["selector"].items() <= labels.items()]
            self.check(len(meant) == 1, item, f"selects {len(meant)} workloads")
        for item in self.of("PodDisruptionBudget"):
            meant = [labels for labels in templates if matches(item["spec"]["selector"], labels)]
            self.check(len(meant) == 1, item, f"protects {len(meant)} workloads")
        for item in self.of("ServiceMonitor", "PodMonitor"):
            of_services = item["kind"] == "ServiceMonitor"
            if of_services:
                offered = {one["metadata"]["name"]: {port["name"] for port in one["spec"]["ports"]} for one in self.of("Service") if matches(item["spec"]["selector"], one["metadata"].get("labels", {}))}
            else:
                offered = {workload["metadata"]["name"]: {port["name"] for container in template["spec"]["containers"] for port in container.get("ports", [])} for workload, template in self.pods() if matches(item["spec"]["selector"], template["metadata"]["labels"])}
            self.check(SERVICES.keys() <= offered.keys() if of_services else offered, item, f"scrapes {sorted(offered)}")
            for endpoint in item["spec"]["endpoints" if of_services else "podMetricsEndpoints"]:
                self.check(all(endpoint["port"] in ports for ports in offered.values()), item, f"{endpoint['port']} is not a port of {sorted(offered)}")
        for workload, template in self.pods():
            if workload["kind"] not in ("Job", "CronJob"):
                self.check(matches(workload["spec"]["selector"], template["metadata"]["labels"]), workload, "does not select its own pods")
                others = [labels for labels in templates if matches(workload["spec"]["selector"], labels)]
                self.check(len(others) == 1, workload, "selects pods of other workloads")
        for item in self.objects:
            if item["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "job":
                self.check(item["kind"] == "Job", item, "is applied by scripts/deploy only where a Job makes the topics: another label is needed")

    def routes(self):
        """From outside: the prefixes of the four public services and nothing else, over HTTPS; sockets without a time limit."""
        ports = {item["metadata"]["name"]: item["spec"]["ports"][0]["port"] for item in self.of("Service")}
        self.exposed()
        for kind, ways in (("HTTPRoute", self.http_routes), ("Ingress", self.ingresses), ("VirtualService", self.virtual_services), ("LoadBalancer", self.balancers)):
            prefixes = {}
            for item, path, name, port, limit in ways(ports):
                self.check(ports.get(name) == port, item, f"{name}:{port} is no port of a Service")
                self.check(name in PUBLIC, item, f"{path} makes {name} public")
                self.check(path == f"/{name}-service" or path.startswith(f"/{name}-service/"), item, f"{path} goes to {name}")
                self.check(limit == 0 if path in SOCKETS else limit > ANSWERED_WITHIN, item, f"{path} is cut after {limit:g} s")
                prefixes[path] = name
            if prefixes:
                missing = {f"/{name}-service" for name in PUBLIC} - prefixes.keys()
                check(not missing, f"{self.title}: {kind}: no way to {sorted(missing)}")
                missing = SOCKETS - prefixes.keys()
                check(kind == "Ingress" or not missing, f"{self.title}: {kind}: the time limit of requests holds for {sorted(missing)}")

    def exposed(self):
        """A Service that can be reached from outside must not lead to a service's own port, which has /actuator too, and names who may connect."""
        for item in self.of("Service"):
            spec = item["spec"]
            self.check(spec.get("type", "ClusterIP") in ("ClusterIP", "LoadBalancer") and not spec.get("externalIPs"), item, f"exposes its ports as {spec.get('type')}")
            if spec.get("type") == "LoadBalancer":
                to = [labels[NAME] for labels in self.labels() if spec["selector"].items() <= labels.items()]
                self.check(to in (["entry"], ["mysql"]), item, f"publishes whole ports of {to}: /actuator and everything else")
                self.check(spec.get("loadBalancerSourceRanges"), item, "lets every address in")

    def forwarded(self):
        """Returns port, host and port of the host for each port that HAProxy listens on and forwards from; empty without component load-balancer."""
        found = []
        for item in self.of("ConfigMap"):
            if text := item.get("data", {}).get("haproxy.cfg"):
                servers = {name: to_port(address) for name, address in re.findall(r"^backend (\S+)\n +server \S+ (\S+)$", text, re.MULTILINE)}
                for port, backend in re.findall(r"^frontend \S+\n +bind :(\d+)\n(?:(?!frontend ).*\n)*? +default_backend (\S+)$", text, re.MULTILINE):
                    found.append((int(port), *servers[backend]))
                self.check(len(found) == len(servers) == len(re.findall(r"^ +(?:default_backend|use_backend) ", text, re.MULTILINE)), item, f"forwards in a way that is not understood here: {found}, {servers}")
        return found

    def balancers(self, ports):
        """What HAProxy forwards is seen by entry.py; here: each public port has one service behind it, and the Service has these ports alone."""
        balancers = [item for item in self.of("Service") if item["metadata"]["name"] == "entry"]
        for item in balancers:
            forwarded = self.forwarded()
            offered = {port["port"] for port in item["spec"]["ports"]}
            self.check(offered == {port for port, _, _ in forwarded}, item, f"has ports {sorted(offered)}, HAProxy forwards {forwarded}")
            text = next(one["data"]["haproxy.cfg"] for one in self.of("ConfigMap") if "haproxy.cfg" in one.get("data", {}))
            limit = seconds(re.search(r"^ +timeout server (\S+)$", text, re.MULTILINE)[1])
            for port, name, to in forwarded:
                self.check(port == to, item, f"port {port} is not the one of {name}")
                yield item, f"/{name}-service", name, to, limit
        if balancers:
            # Without a byte for this long: sockets are pinged more often.
            for path in SOCKETS:
                yield item, path, path[1:].partition("-")[0], ports[path[1:].partition("-")[0]], 0

    def http_routes(self, _):
        routes = self.of("HTTPRoute")
        listeners = {(gateway["metadata"]["name"], listener["name"]): listener for gateway in self.of("Gateway") if "listeners" in gateway["spec"] for listener in gateway["spec"]["listeners"]}
        check(not routes or {(listener["protocol"], listener["port"]) for listener in listeners.values()} == {("HTTP", 80), ("HTTPS", 443)}, f"{self.title}: the gateway listens on {sorted(listeners)}")
        for item in routes:
            for parent in item["spec"]["parentRefs"]:
                listener = listeners.get((parent["name"], parent.get("sectionName")))
                if not self.check(listener, item, f"listener {parent} does not exist"):
                    continue
                for rule in item["spec"]["rules"]:
                    if listener["protocol"] == "HTTP":
                        turned = [entry["requestRedirect"]["scheme"] for entry in rule.get("filters", []) if entry["type"] == "RequestRedirect"]
                        self.check(turned == ["https"] and "backendRefs" not in rule, item, "serves without TLS")
            for rule in item["spec"]["rules"]:
                rewritten = [entry["type"] for entry in rule.get("filters", []) if entry["type"] != "RequestRedirect"]
                self.check(not rewritten, item, f"changes requests, so that a path may become /actuator: {rewritten}")
                for end in rule.get("backendRefs", []):
                    for match in rule.get("matches", [{"path": {"value": "/"}}]):
                        yield item, match["path"]["value"], end["name"], end["port"], seconds(rule["timeouts"]["request"])

    def virtual_services(self, _):
        for gateway in self.of("Gateway"):
            for server in gateway["spec"].get("servers", []):
                self.check(server["tls"].get("httpsRedirect") or server["tls"].get("mode") == "SIMPLE", gateway, "serves without TLS")
        for item in self.of("VirtualService"):
            for rule in item["spec"]["http"]:
                self.check(rule["retries"]["attempts"] == 0, item, "repeats requests that are not idempotent")
                for match in rule.get("match", [{"uri": {"prefix": "/"}}]):
                    for end in rule["route"]:
                        to = end["destination"]
                        yield item, next(iter(match["uri"].values())).removesuffix("/"), to["host"], to["port"]["number"], seconds(rule.get("timeout", "0s"))

    def ingresses(self, ports):
        for item in self.of("Ingress"):
            said = {key.rpartition("/")[2]: value for key, value in item["metadata"]["annotations"].items()}
            self.check(item["spec"].get("tls") and said["ssl-redirect"] == "true" and "defaultBackend" not in item["spec"], item, "serves without TLS")
            self.check(not said.keys() & {"rewrite-target", "app-root", "server-snippet", "configuration-snippet", "use-regex"}, item, f"changes paths, so that one may become /actuator: {sorted(said)}")
            for name in SERVICES:
                self.check(int(said["proxy-body-size"].removesuffix("m")) * 2**20 >= settings(name)["server.body-limit"], item, f"refuses bodies that {name} accepts")
            for rule in item["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    name = path["backend"]["service"]["name"]
                    self.check(path["pathType"] == "Prefix", item, f"{path['path']} is matched as {path['pathType']}")
                    # This timeout counts from the last byte; sockets are pinged more often.
                    yield item, path["path"], name, ports[name], float(said["proxy-read-timeout"]) + seconds(settings(name)["server.body-timeout"])


def quantity(text):
    """Returns cores or bytes: 250m, 2, 96Mi, 1Gi."""
    units = {"m": 0.001, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}
    match = re.fullmatch(r"(\d+)(m|Ki|Mi|Gi|)", text or "0")
    return int(match[1]) * units[match[2]]


def described(peer):
    """Describes a peer of a NetworkPolicy; an empty selector is `anything`."""
    def words(selector):
        labels = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
        return " ".join(labels + [json.dumps(rule) for rule in selector.get("matchExpressions", [])]) or "anything"

    if block := peer.get("ipBlock"):
        return block["cidr"] + (" but " + " ".join(block["except"]) if block.get("except") else "")
    parts = {"namespaceSelector": "namespace", "podSelector": "pods"}
    return ", ".join(f"{name} {words(peer[key])}" for key, name in parts.items() if key in peer)


def matches(selector, labels):
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] != "In" or labels.get(rule["key"]) not in rule["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def to_port(address):
    host, port = address.split(":")
    return host, int(port)


def files():
    """Checks the settings files of other programs: the collector, Fluent Bit, Argo CD."""
    collector = load(K8S / "components/opentelemetry/collector.yaml")[0]
    for name, pipeline in collector["service"]["pipelines"].items():
        for part in ("receivers", "processors", "exporters"):
            unknown = set(pipeline[part]) - collector[part].keys()
            check(not unknown, f"collector.yaml: {name}: no {part} called {sorted(unknown)}")
    fluent = load(K8S / "components/logging/fluent-bit.yaml")[0]
    patterns = set(fluent["pipeline"]["inputs"][0]["path"].split(","))
    overlays = [load(path / "kustomization.yaml")[0]["namespace"] for path in (K8S / "overlays").iterdir()]
    wanted = {f"/var/log/containers/*_{namespace}_*.log" for namespace in overlays}
    check(patterns == wanted, f"fluent-bit.yaml: reads {sorted(patterns)}, the fleet is in {sorted(wanted)}")
    parsers = {parser["name"] for parser in load(K8S / "components/logging/parsers.yaml")[0]["parsers"]}
    asked = {entry["parser"] for entry in fluent["pipeline"]["filters"] if "parser" in entry}
    check(asked == parsers, f"fluent-bit.yaml: parsers {sorted(asked)}, there are {sorted(parsers)}")
    destinations = [end["namespace"] for end in load(K8S / "argocd/project.yaml")[0]["spec"]["destinations"]]
    branches = set()
    for application in load(K8S / "argocd/application.yaml"):
        name, spec = application["metadata"]["name"], application["spec"]
        source, overlay = spec["source"], Path(spec["source"]["path"]).name
        branches.add((source["targetRevision"], overlay))
        check((ROOT / source["path"]).is_dir(), f"argocd: no {source['path']}")
        check(spec["destination"]["namespace"] == load(ROOT / source["path"] / "kustomization.yaml")[0]["namespace"], f"argocd: {name} goes to {spec['destination']['namespace']}")
        check(spec["destination"]["namespace"] in destinations, f"argocd: the project has no {spec['destination']['namespace']}")
        for component in source["kustomize"]["components"]:
            check((ROOT / source["path"] / component).is_dir(), f"argocd: no {component}")
        check(f"../../argocd/images/{overlay}" in source["kustomize"]["components"], f"argocd: {name} does not read the digests that `scripts/deploy write-back {overlay}` writes")
    check(branches == {("main", "production"), ("staging", "staging")}, f"argocd: branches and overlays are {sorted(branches)}")


def secrets():
    """Compares the Secrets of `scripts/deploy secrets` with those of the external-secrets component; returns them."""
    script = (ROOT / "scripts/deploy").read_text().replace("\\\n", " ")
    made = {name: set(re.findall(r' ([a-z-]+) "', rest + " ")) for name, rest in re.findall(r"make_secret ([a-z-]+)((?: +[a-z-]+ \"[^\n]*?\")+)\n", script)}
    fetched = {item["metadata"]["name"]: {entry["secretKey"] for entry in item["spec"].get("data", [])} for item in load(K8S / "components/external-secrets/secrets.yaml")}
    for of_providers in ("images-credentials", "push-credentials", "sign-in-credentials", "mail-credentials"):
        fetched.pop(of_providers)
    # Of brokers outside: only overlay `outside`, which reads no secret store, has them.
    check({name: keys for name, keys in made.items() if name != "kafka-accounts"} == fetched, f"scripts/deploy makes {made}, external-secrets fetches {fetched}")
    return made


def first_rule(route):
    return route["spec"]["rules"][0]


def first_path(ingress):
    return ingress["spec"]["rules"][0]["http"]["paths"][0]


# Ways to publish what must stay inside: a composition, an object of it, a change, and what is said about that.
FAULTS = (
    ("production", "HTTPRoute", "feed", lambda item: first_rule(item)["matches"][0]["path"].update(value="/"), "goes to feed"),
    ("production", "HTTPRoute", "feed", lambda item: first_rule(item)["matches"][0]["path"].update(value="/actuator"), "goes to feed"),
    ("production", "HTTPRoute", "feed", lambda item: first_rule(item)["backendRefs"][0].update(name="config", port=8888), "makes config public"),
    ("staging", "HTTPRoute", "feed", lambda item: first_rule(item).update(filters=[{"type": "URLRewrite", "urlRewrite": {}}]), "changes requests"),
    ("dev with ingress", "Ingress", "fleet", lambda item: first_path(item).update(path="/"), "goes to auth"),
    ("dev with ingress", "Ingress", "fleet", lambda item: first_path(item).update(pathType="ImplementationSpecific"), "is matched as"),
    ("dev with ingress", "Ingress", "fleet", lambda item: first_path(item)["backend"]["service"].update(name="config"), "makes config public"),
    ("dev with ingress", "Ingress", "fleet", lambda item: item["metadata"]["annotations"].update({"nginx.ingress.kubernetes.io/rewrite-target": "/actuator"}), "changes paths"),
    ("outside", "Service", "feed", lambda item: item["spec"].update(type="LoadBalancer", loadBalancerSourceRanges=["192.0.2.30/32"]), "publishes whole ports"),
    ("outside", "Service", "config", lambda item: item["spec"].update(type="NodePort"), "exposes its ports"),
    ("outside", "Service", "entry", lambda item: item["spec"].pop("loadBalancerSourceRanges"), "lets every address in"),
    ("outside", "ConfigMap", "entry-settings", lambda item: item["data"].update({"haproxy.cfg": item["data"]["haproxy.cfg"].replace("feed:8891", "config:8888")}), "makes config public"),
)


def faults(built):
    """Each of FAULTS must be seen: a check that cannot fail proves nothing."""
    for title, kind, name, change, words in FAULTS:
        changed = Composition(title, copy.deepcopy(built[title]))
        for item in changed.of(kind):
            if item["metadata"]["name"].startswith(name):
                change(item)
        before = len(complaints)
        changed.routes()
        said, complaints[before:] = complaints[before:], []
        check(any(words in line for line in said), f"{title}: a changed {kind} {name} is not seen as one that {words}: {said}")


def main():
    made = secrets()
    files()
    built = compositions(sys.argv[1])
    strimzi = [item for objects in built.values() for item in objects if item["apiVersion"] == STRIMZI]
    Path(sys.argv[3]).write_text("".join(json.dumps(item, sort_keys=True) + "\n" for item in strimzi))
    for title, objects in built.items():
        composition = Composition(title, objects)
        composition.all()
        # Strimzi's operator creates a Secret for each user, with the user's name.
        made_here = made | {user["metadata"]["name"]: {"password", "sasl.jaas.config"} for user in composition.of("KafkaUser")}
        for workload, template in composition.pods():
            for volume in template["spec"].get("volumes", []):
                secret = volume.get("secret", {})
                # The operator creates the authority of the brokers' certificates.
                if secret and secret["secretName"] != "fleet-cluster-ca-cert":
                    composition.check({item["key"] for item in secret["items"]} <= made_here.get(secret["secretName"], set()), workload, f"mounts keys of Secret {secret['secretName']} that are not created")
            for container in template["spec"].get("initContainers", []) + template["spec"]["containers"]:
                for variable in container.get("env", []):
                    if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                        composition.check(reference["key"] in made_here.get(reference["name"], ()), workload, f"key {reference['key']} of Secret {reference['name']} is not created")
    faults(built)
    check(Composition.outside_seen >= OUTSIDE, f"no composition has the listed edges {sorted(map(str, OUTSIDE - Composition.outside_seen))}")
    finish(f"{len(built)} compositions, {sum(map(len, built.values()))} objects, valid in {', '.join(VERSIONS)}; edges as used")


main()
