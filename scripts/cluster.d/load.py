"""Asks an address again and again, until SIGTERM: load.py URL

A connection takes some requests only, so that the load moves to replicas that are added. What fails is asked again.
"""

import http.client
import sys
import threading
import urllib.parse

THREADS = 4
REQUESTS = 50


def ask(url):
    while True:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        try:
            for _ in range(REQUESTS):
                connection.request("GET", url.path)
                connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()


address = urllib.parse.urlsplit(sys.argv[1])
for _ in range(THREADS):
    threading.Thread(target=ask, args=(address,), daemon=True).start()
threading.Event().wait()
