"""Shared by the checks: the repository, its settings and topics, and the list of errors."""

import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SERVICES = {"config": 8888, "dm": 8889, "auth": 8890, "feed": 8891, "notice": 8892}

complaints = []
# Sockets that are held until the program ends.
reserved = []


def reserve_port():
    """Reserves a port of loopback: bound, not listening, as crates/testkit/src/ports.rs does. Servers set SO_REUSEADDR too."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    reserved.append(held)
    return held.getsockname()[1]


def check(holds, complaint):
    """Records the complaint unless the condition holds; returns whether it holds."""
    if not holds:
        complaints.append(complaint)
    return holds


def finish(summary):
    for complaint in complaints:
        print(f"error: {complaint}", file=sys.stderr)
    if complaints:
        sys.exit(f"{len(complaints)} complaints")
    print(summary)


def load(path):
    # Uses libyaml if PyYAML was built with it: ten times as fast.
    return list(yaml.load_all(Path(path).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def parse(text):
    return [document for document in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if document]


def settings(service):
    """Returns all keys of a service, such as `server.drain-delay`, with their defaults; None for commented keys."""
    found = {}
    for path in (ROOT / "crates/common/src/settings/shared.toml", ROOT / f"services/{service}/src/settings.toml"):
        text = path.read_text()
        sections = [(name, values) for name, values in tomllib.loads(text).items() if isinstance(values, dict)]
        for section, values in sections:
            found |= {f"{section}.{key}": value for key, value in values.items() if not isinstance(value, dict)}
            sections += [(f"{section}.{key}", value) for key, value in values.items() if isinstance(value, dict)]
        section = None
        for line in text.splitlines():
            # Matches a section that is commented as a whole, too.
            if match := re.fullmatch(r"(?:# )?\[([a-z.-]+)\]", line):
                section = match[1]
            elif match := re.fullmatch(r"# ([a-z-]+) = .*", line):
                found.setdefault(f"{section}.{match[1]}", None)
    return found


def setting_of(variable, service):
    """Returns the key that an environment variable sets, or None if the variable belongs to another service."""
    prefix = f"SOSOHAPPY_{service.upper()}__"
    if not variable.startswith(prefix):
        return None
    return variable[len(prefix):].lower().replace("__", ".").replace("_", "-")


def seconds(text):
    """Returns the seconds of a duration as settings write it: 5s, 2m, 1h."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    return int(match[1]) * units[match[2]]


def partitions():
    source = (ROOT / "crates/events/src/topic.rs").read_text()
    return int(re.search(r"const PARTITIONS: i32 = (\d+);", source)[1])


def run(*command, **more):
    return subprocess.run(command, check=True, text=True, capture_output=True, **more).stdout
