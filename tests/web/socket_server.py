"""A server of WebSockets (PyPI `websockets`) that says what it is told; told "push", it talks on without end. Prints
its port; ends when its standard input does."""

import sys
import threading
import time

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve


def talk(socket):
    try:
        for message in socket:
            if message == "push":
                while True:
                    socket.send("tick")
                    time.sleep(0.02)
            socket.send(message)
    except ConnectionClosed:
        pass


with serve(talk, "127.0.0.1", 0) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.socket.getsockname()[1], flush=True)
    sys.stdin.read()
    server.shutdown()
