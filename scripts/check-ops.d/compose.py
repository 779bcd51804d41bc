"""Compares docker/compose.yaml, the Dockerfile and the development container with the services and the files of the repository."""

import json
import re

from common import ROOT, SERVICES, check, finish, load, seconds, setting_of, settings

# The engines of the composition, by setting.
ENGINES = {"events.url": {"kafka"}, "database.url": {"mysql"}, "messages.url": {"mongodb"}, "inbox.url": {"mongodb"}, "images.url": {"file"}, "config.url": {"http"}, "source.url": {"file"}}
# The part of a database's URL that checks the server's certificate.
VERIFIED = {"mysql": "ssl-mode=VERIFY_CA&ssl-ca=", "mongodb": "tls=true&tlsCAFile="}
# Its image has no program for a health check; Prometheus reports whether it responds.
UNWATCHED = {"mongodb-exporter"}


def main():
    compose = load(ROOT / "docker/compose.yaml")[0]
    services, volumes = compose["services"], set(compose["volumes"])
    used = set()
    images = {}
    for path in [ROOT / "docker/compose.yaml", ROOT / "docker/engines.yaml", *(ROOT / "k8s").rglob("*.yaml")]:
        for image, tag in re.findall(r"^\s*(?:- )?image: ([a-z0-9./_-]+):([\w.-]+)$", path.read_text(), re.MULTILINE):
            images.setdefault(image, {}).setdefault(tag, set()).add(str(path.relative_to(ROOT)))
    urls = 0
    for path in [ROOT / "docker/compose.yaml", ROOT / "scripts/deploy", *(ROOT / "k8s").rglob("*.yaml")]:
        for url, scheme in re.findall(r"\b((mysql|mongodb)://[^\s\"\\]+)", path.read_text()):
            check(VERIFIED[scheme] in url, f"{path.relative_to(ROOT)}: {url} does not check the server's certificate")
            check(re.match(r"\w+://\w+:[^@/]+@", url), f"{path.relative_to(ROOT)}: {url} has no user with a password")
            urls += 1
    check(urls >= 8, f"only {urls} URLs of databases were found")
    check(any(argument.startswith("--keyFile=") for argument in services["mongodb"]["command"]), "mongodb: without a key file a client needs no password")
    for image, tags in images.items():
        check(len(tags) == 1, f"{image} has several versions: {tags}")
    watched = "".join(services["ready"]["healthcheck"]["test"])
    for name, service in services.items():
        lives = service.get("restart") == "unless-stopped"
        check(not lives or "healthcheck" in service or f"{name}:" in watched or name in UNWATCHED, f"{name}: no health check")
        for key, value in {**service.get("healthcheck", {}), "stop_grace_period": service.get("stop_grace_period", "10s")}.items():
            check(key in ("test", "retries") and value or isinstance(value, str) and re.fullmatch(r"\d+(ms|s|m)", value), f"{name}: {key}: {value}")
        check(isinstance(service.get("healthcheck", {}).get("retries", 1), int), f"{name}: invalid retries in {service.get('healthcheck')}")
        image = service["image"]
        check("build" in service or ":" in image.rsplit("/", 1)[-1] and not image.endswith(":latest"), f"{name}: {image} has no fixed version")
        for other in service.get("depends_on", []):
            check(other in services, f"{name} depends on {other}, which does not exist")
            condition = service["depends_on"][other]["condition"] if isinstance(service["depends_on"], dict) else ""
            check(condition != "service_healthy" or "healthcheck" in services.get(other, {}), f"{name} waits for the health of {other}, which has no health check")
        for port in service.get("ports", []):
            check(port.startswith("127.0.0.1:"), f"{name}: {port} is not limited to loopback")
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("./tls"):
                # Created by scripts/deploy compose-secrets.
                continue
            if source.startswith("."):
                check((ROOT / "docker" / source).exists(), f"{name}: {source} does not exist")
            else:
                used.add(source)
    check(used == volumes, f"volumes declared {sorted(volumes)}, used {sorted(used)}")

    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    builder = re.search(r"^FROM (\S+) AS tools$", dockerfile, re.MULTILINE)[1]
    check(container["image"] == builder, f"devcontainer.json has {container['image']}, the Dockerfile builds with {builder}")
    # The console, and the services.
    check(container["forwardPorts"] == [8880, *sorted(SERVICES.values())], f"devcontainer.json forwards {container['forwardPorts']}")
    for name, port in SERVICES.items():
        service, known = services[name], settings(name)
        for variable in service["environment"]:
            key = setting_of(variable, name)
            check(key in known or variable in ("SOSOHAPPY_SERVICE_TOKEN", "SOSOHAPPY_OPERATOR_TOKEN"), f"{name}: {variable} is not one of its settings")
            scheme = service["environment"][variable].split(":")[0]
            check(scheme in ENGINES.get(key, {scheme}), f"{name}: {variable} begins with {scheme}:, an engine that the composition does not have")
        check(service["ports"] == [f"127.0.0.1:{port}:{port}"], f"{name}: wrong port")
        check(service["build"]["args"]["BINARY"] == f"sosohappy-{name}" and f"/sosohappy-{name}" in dockerfile, f"{name}: wrong binary")
        check(service.get("read_only") and service.get("cap_drop") == ["ALL"], f"{name}: not hardened")
        leave = seconds(known["server.drain-delay"]) + seconds(known["server.drain-budget"]) + 2
        check(seconds(service["stop_grace_period"]) > leave, f"{name}: stop_grace_period is shorter than its graceful shutdown, {leave:g} s")
        check(f"{name}:{port}" in services["ready"]["healthcheck"]["test"][-1], f"{name}: its readiness is not checked")
    scraped = {target for job in load(ROOT / "monitoring/prometheus/prometheus.yml")[0]["scrape_configs"] for config in job["static_configs"] for target in config["targets"]}
    check({f"{name}:{port}" for name, port in SERVICES.items()} <= scraped, f"Prometheus scrapes {sorted(scraped)}")
    check({target.split(":")[0] for target in scraped} - {"127.0.0.1"} <= services.keys(), f"Prometheus scrapes targets that do not exist: {sorted(scraped)}")

    stages = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    check(stages[-1].startswith("gcr.io/distroless/") and stages[-1].endswith(":nonroot"), f"the last image is {stages[-1]}")
    check(re.search(r"^USER 65532:65532$", dockerfile, re.MULTILINE), "the image does not run as user 65532")
    finish(f"{len(services)} containers")


main()
