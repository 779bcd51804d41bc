"""Runs HAProxy with the settings of k8s/components/load-balancer in front of four servers that answer with what they were asked for: what reaches a
server begins with the prefix of its service, and everything else is refused, /actuator and the config service above all.

usage: entry.py HAPROXY
"""

import base64
import hashlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import ROOT, SERVICES, check, finish, reserve_port

SETTINGS = ROOT / "k8s/components/load-balancer/haproxy.cfg"
PUBLIC = [name for name in SERVICES if name != "config"]
# Seconds.
PATIENCE = 30
KEY = "MDEyMzQ1Njc4OWFiY2RlZg=="


class Server(threading.Thread):
    """Answers each connection's first request with its target, and an upgrade with 101 and an echo."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener, self.targets = socket.create_server(("127.0.0.1", 0)), []
        self.start()

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            with connection:
                head = connection.recv(65536).decode()
                if not head:
                    continue
                self.targets.append(head.split()[1])
                if "upgrade: websocket" in head.lower():
                    # RFC 6455, 4.2.2.
                    accepted = base64.b64encode(hashlib.sha1(f"{KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
                    connection.sendall(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accepted}\r\n\r\n".encode())
                    connection.sendall(connection.recv(65536))
                else:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def ask(port, target, more="", then=b""):
    """Returns the status, and what follows the head."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: fleet\r\n{more or 'Connection: close' + chr(13) + chr(10)}\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got and (part := connection.recv(65536)):
            got += part
        head, _, rest = got.partition(b"\r\n\r\n")
        if then:
            connection.sendall(then)
            while len(rest) < len(then) and (part := connection.recv(65536)):
                rest += part
        return int(head.split()[1]), rest


def started(process, port):
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return ask(port, "/ready")[0] == 200
        except (ConnectionError, IndexError):
            time.sleep(0.05)
    return False


def main():
    servers, ports, text = {name: Server() for name in PUBLIC}, {}, SETTINGS.read_text()
    for number in re.findall(r"^ +bind :(\d+)$", text, re.MULTILINE):
        ports[int(number)] = reserve_port()
        text = text.replace(f"bind :{number}\n", f"bind 127.0.0.1:{ports[int(number)]}\n")
    for name, server in servers.items():
        text = text.replace(f" {name}:{SERVICES[name]}\n", f" 127.0.0.1:{server.listener.getsockname()[1]}\n")
    check(ports.keys() == {8080, *(SERVICES[name] for name in PUBLIC)}, f"haproxy.cfg listens on {sorted(ports)}")
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "haproxy.cfg"
        file.write_text(text)
        process = subprocess.Popen([sys.argv[1], "-db", "-f", file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            if not check(started(process, ports[8080]), "HAProxy does not start with haproxy.cfg"):
                process.terminate()
                sys.exit(process.communicate()[0])
            refused = 0
            for name, server in servers.items():
                port, own = ports[SERVICES[name]], f"/{name}-service"
                for target in (f"{own}/x?y=/actuator", f"{own}/", f"http://fleet{own}/x"):
                    check(ask(port, target)[0] == 200, f"entry: {target} does not reach {name}")
                socket_of = f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
                check(ask(port, f"{own}/connect-{name}", socket_of, b"frame") == (101, b"frame"), f"entry: no socket to {name}")
                before = len(server.targets)
                others = [f"/{other}-service/x" for other in SERVICES if other != name]
                for target in ("/", "/actuator", "/actuator/prometheus", "/actuator/health", "//actuator/health", "/%61ctuator/health", "/ACTUATOR/health", own, f"{own}x/y", f"/x{own}/",
                               f"/{own}/x", "/ready", "http://fleet/actuator/prometheus", f"http:/{own}/actuator/health", *others):
                    status, _ = ask(port, target)
                    check(status in (400, 404), f"entry: {target} at the port of {name} is answered {status}")
                    refused += 1
                check(len(server.targets) == before, f"entry: reached {name}: {server.targets[before:]}")
            check(ask(ports[8080], "/actuator/health")[0] == 404, "entry: the port of the probe answers more than /ready")
        finally:
            process.terminate()
            process.wait()
    finish(f"HAProxy forwards {len(servers)} prefixes and refuses {refused} other targets")


main()
