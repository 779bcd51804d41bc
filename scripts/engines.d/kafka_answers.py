"""Requests metadata from the Kafka broker at HOST PORT; succeeds when the broker lists itself as live."""

import socket
import struct
import sys

METADATA, VERSION, CORRELATION = 3, 1, 1


def live_brokers(host: str, port: int) -> int:
    # Request header v1 (no client id), then an empty list: no topics, brokers only.
    request = struct.pack(">hhihi", METADATA, VERSION, CORRELATION, -1, 0)
    with socket.create_connection((host, port), timeout=2) as connection:
        connection.settimeout(2)
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as answer:
            _size, correlation, brokers = struct.unpack(">iii", answer.read(12))
    return brokers if correlation == CORRELATION else 0


try:
    sys.exit(0 if live_brokers(sys.argv[1], int(sys.argv[2])) > 0 else 1)
except (OSError, struct.error):
    sys.exit(1)
