"""Runs the fleet, signs two people in, and runs schemathesis on the document of each service.

usage: run.py FLEET
"""

import hashlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

SERVICES = ("config", "auth", "feed", "dm", "notice")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
# Cases of one operation and phase.
EXAMPLES = 40
PATIENCE = 60
# The same requests in each run: a change is not refused for what another one has done. Others: CHECK_API_SEED=2 scripts/check-api
SEED = os.environ.get("CHECK_API_SEED", "1")
# `resign` ends the account that all other calls are made with.
EXCLUDED = "/resign$"
# All requests come from one address and one account, faster than people call: a 429 would hide the operation's own response.
UNLIMITED = [f"PER_{key}__{kind}" for key in ("ADDRESS", "ACCOUNT") for kind in ("READ", "WRITE", "UPLOAD", "CONNECT")]
UNLIMITED += ["PER_ADDRESS__ANONYMOUS", "PER_ADDRESS__SIGN_IN"]


def reserve_ports():
    """Returns sockets that reserve free ports while the fleet starts: bound, not listening, as in crates/testkit/src/ports.rs."""
    reserved = {}
    for name in SERVICES:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        reserved[name] = held
    return reserved


def post(url, fields, headers=None):
    request = urllib.request.Request(url, urllib.parse.urlencode(fields).encode(), headers or {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers, json.load(answer)


def sign_in(auth, email, nickname):
    verifier = secrets.token_hex(10)
    challenge = hashlib.sha512(verifier.encode()).hexdigest()
    _, code = post(f"{auth}/getAuthorizeCode", {"codeChallenge": challenge})
    fields = {
        "email": email,
        "provider": "kakao",
        "providerId": f"id-of-{email}",
        "codeVerifier": verifier,
        "authorizeCode": code["authorizeCode"],
        "deviceToken": f"device-of-{email}",
    }
    signed_in, _ = post(f"{auth}/signIn", fields)
    headers = {"Authorization": signed_in["authorization"], "email": signed_in["email"]}
    post(f"{auth}/setProfile", {"email": headers["email"], "nickname": nickname, "introduction": "hi"}, headers)
    return headers


def wait_until_ready(url, process):
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"{url}/actuator/health/readiness", timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"{url} is not ready within {PATIENCE} s") from None
            time.sleep(0.1)


def attack(name, at, headers, own):
    """Runs schemathesis on one service; returns whether it passed, and its output."""
    command = [
        str(Path(sys.executable).with_name("st")),
        "run",
        f"{at}/{name}-service/openapi.json",
        f"--checks={CHECKS}",
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={EXAMPLES}",
        f"--seed={SEED}",
        f"--exclude-path-regex={EXCLUDED}",
        "--suppress-health-check=all",
        "--warnings=off",
        "--generation-database=none",
        "--no-color",
        *(f"--header={header}: {value}" for header, value in headers.items()),
    ]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("hooks.py")),
        "CHECK_API_OWN": json.dumps(own),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tempfile.gettempdir())
    return done.returncode == 0, done.stdout + done.stderr


def main():
    (fleet,) = sys.argv[1:]
    reserved = reserve_ports()
    at = {name: f"http://127.0.0.1:{held.getsockname()[1]}" for name, held in reserved.items()}
    environment = os.environ | {"SOSOHAPPY_ENTRY": "off"}
    for name, url in at.items():
        own = f"SOSOHAPPY_{name.upper()}"
        environment[f"{own}__SERVER__PORT"] = url.rpartition(":")[2]
        environment |= {f"{own}__RATE_LIMITS__{limit}": "off" for limit in UNLIMITED}
        # With the default, a busy machine answers 503 to people whom the topics have not brought yet.
        if name in ("feed", "dm", "notice"):
            environment[f"{own}__ACCESS__INTROSPECTION_TIMEOUT"] = "10s"
    with tempfile.TemporaryDirectory() as folder:
        data, log = Path(folder) / "data", Path(folder) / "fleet.log"
        with log.open("w") as written:
            process = subprocess.Popen([fleet, "run", "--data", data], stdout=written, stderr=subprocess.STDOUT, env=environment)
        try:
            for url in at.values():
                wait_until_ready(url, process)
            auth = f"{at['auth']}/auth-service"
            kim = sign_in(auth, "kim@example.com", "kim")
            sign_in(auth, "lee@example.com", "lee")
            own = {"email": kim["email"], "nickname": "kim", "srcNickname": "kim", "sender": "kim", "dstNickname": "lee", "receiver": "lee"}
            operator = {"Authorization": f"Bearer {(data / 'operator-token').read_text().strip()}"}
            failed = []
            for name in SERVICES:
                passed, text = attack(name, at[name], operator if name == "config" else kim, own)
                cases = re.search(r"(\d+) generated", text)
                print(f"{name}: {cases.group(1) if cases else 'no'} requests, {'as documented' if passed else 'FAILED'}")
                if not passed or not cases:
                    failed.append(name)
                    print(text)
            # The fleet is still ready: detects requests that broke a service for others.
            for url in at.values():
                wait_until_ready(url, process)
        except BaseException:
            print(log.read_text()[-3000:], file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    sys.exit(f"check-api: failed for {', '.join(failed)}" if failed else 0)


main()
