"""Serves S3's protocol on a free port of the loopback interface, from memory.

Prints the port, and ends when its input ends: with the test that started it.
"""

import sys

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
