"""Keeps sockets open, as phones do, and prints how each of them ends: sockets.py AUTH DM NOTICE

The arguments are addresses of the services. Prints a line for each socket that is open for the first time, and one for each that the server has
closed: `closed notice 1012`, or `closed notice none` without a close code. A closed socket is opened again at once. Ends with SIGTERM.
"""

import base64
import hashlib
import json
import os
import secrets
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse
import urllib.request

PEOPLE = 3
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
AGAIN = 0.5


def post(url, fields, headers=None):
    request = urllib.request.Request(url, urllib.parse.urlencode(fields).encode(), headers or {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers, json.load(answer)


def sign_in(auth, nickname):
    """Returns the headers of a new account with this nickname."""
    verifier = secrets.token_hex(10)
    challenge = hashlib.sha512(verifier.encode()).hexdigest()
    _, code = post(f"{auth}/auth-service/getAuthorizeCode", {"codeChallenge": challenge})
    email = f"{nickname}@example.com"
    fields = {
        "email": email,
        "provider": "kakao",
        "providerId": f"id-of-{email}",
        "codeVerifier": verifier,
        "authorizeCode": code["authorizeCode"],
        "deviceToken": f"device-of-{email}",
    }
    signed_in, _ = post(f"{auth}/auth-service/signIn", fields)
    headers = {"Authorization": signed_in["authorization"], "email": signed_in["email"]}
    post(f"{auth}/auth-service/setProfile", {"email": headers["email"], "nickname": nickname, "introduction": "hi"}, headers)
    return headers


class Socket:
    def __init__(self, url, headers):
        url = urllib.parse.urlsplit(url)
        self.connection = socket.create_connection((url.hostname, url.port), timeout=30)
        self.file = self.connection.makefile("rb")
        head = [
            f"GET {url.path}?{url.query} HTTP/1.1",
            f"Host: {url.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.connection.sendall("\r\n".join([*head, "", ""]).encode())
        status = self.file.readline().split()
        if status[1:2] != [b"101"]:
            raise ConnectionError(f"the handshake was answered with {status}")
        while self.file.readline().strip():
            pass
        self.connection.settimeout(None)

    def frame(self):
        """Returns the kind and the payload of the next frame."""
        first, second = self.file.read(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack(">H", self.file.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.file.read(8))
        return first & 15, self.file.read(length)

    def send(self, kind, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.connection.sendall(bytes([128 | kind, 128 | len(payload)]) + mask + masked)

    def end(self):
        """Waits for the end of the socket. Returns the close code of the server, or None."""
        try:
            while True:
                kind, payload = self.frame()
                if kind == PING:
                    self.send(PONG, payload)
                elif kind == CLOSE:
                    self.send(CLOSE, payload[:2])
                    return struct.unpack(">H", payload[:2])[0] if payload else None
        except (OSError, ValueError, struct.error):
            return None
        finally:
            self.connection.close()


def keep(kind, url, headers):
    first = True
    while True:
        try:
            opened = Socket(url, headers)
        except OSError:
            time.sleep(AGAIN)
            continue
        if first:
            print("open", kind, flush=True)
            first = False
        print("closed", kind, str(opened.end()).lower(), flush=True)


auth, dm, notice = sys.argv[1:]
signal.signal(signal.SIGTERM, signal.SIG_DFL)
for number in range(PEOPLE):
    nickname = f"s{secrets.token_hex(3)}{number}"
    headers = sign_in(auth, nickname)
    query = urllib.parse.urlencode({"nickname": nickname, "v": 2, "since": 0})
    for kind, url in (("dm", f"{dm}/dm-service/connect-dm?{query}"), ("notice", f"{notice}/notice-service/connect-notice?{query}")):
        threading.Thread(target=keep, args=(kind, url, headers), daemon=True).start()
threading.Event().wait()
