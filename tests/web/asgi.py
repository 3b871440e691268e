"""An HTTP API behind Hypercorn, which speaks HTTP/1.1 and HTTP/2, and says over which a request came.

GET /v1/customers/ID   what was received
POST /v1/orders        the same, with the body, and an answer with trailers where they are possible
GET /v1/stream         a line each 20 milliseconds, without end
GET /v1/count          how many requests were received in all

Run as `asgi.py PORT [CERT KEY]`; ends when its standard input does.
"""

import asyncio
import json
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

COUNT = [0]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] != "http":
        return
    COUNT[0] += 1
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode()
    said = {
        "version": scope["http_version"],
        "method": scope["method"],
        "path": scope["path"] + (f"?{query}" if query else ""),
        "headers": headers,
        "body": body.decode("latin-1"),
    }
    if scope["path"] == "/v1/count":
        said = {"count": COUNT[0]}
    trailers = scope["path"] == "/v1/orders" and "http.response.trailers" in scope.get("extensions", {})
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    if scope["path"] == "/v1/stream":
        await send(start)
        while True:
            await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
            await asyncio.sleep(0.02)
    await send({**start, "trailers": trailers})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})
    if trailers:
        await send({"type": "http.response.trailers", "headers": [(b"x-behind", b"secret")], "more_trailers": False})


async def main():
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0
    if len(sys.argv) > 2:
        config.certfile, config.keyfile = sys.argv[2:4]
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.read1() or ended.set())
    await serve(app, config, shutdown_trigger=ended.wait)


asyncio.run(main())
