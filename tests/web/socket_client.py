"""A client of WebSockets (PyPI `websockets`). Reads {"url": URL, "token": TOKEN} from its standard input, talks both
ways, writes the line "open", and then waits for the end; writes what it saw as JSON."""

import json
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

plan = json.loads(sys.stdin.readline())
headers = {"Authorization": f"Bearer {plan['token']}"}
seen = {"texts": [], "pushed": 0}
# Compression is offered, as it is by default; whether it is used is for the server to say.
with connect(plan["url"], additional_headers=headers, proxy=None) as socket:
    socket.send("grüße")
    seen["texts"].append(socket.recv(20))
    big = bytes(range(256)) * 1024
    socket.send(big)
    seen["binary"] = socket.recv(20) == big
    socket.ping().wait(20)
    socket.send("push")
    seen["last"] = socket.recv(60)
    print("open", flush=True)
    try:
        while True:
            seen["last"] = socket.recv(60)
            seen["pushed"] += 1
    except ConnectionClosed as closed:
        seen["closed"] = closed.rcvd.code if closed.rcvd else None
    except TimeoutError:
        seen["closed"] = "never"
print(json.dumps(seen), flush=True)
