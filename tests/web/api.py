"""A small HTTP API that tells what reached it, for tests. Prints its port; ends when its standard input does.

GET /customers/ID     what was received, with fields that agents must not see
POST /orders          what was received, with the body
GET /count            how many requests were received in all
GET /stream           a line each 20 milliseconds, without end
GET /away, /here      redirects: out of the API, and within it
GET /session          an answer with a cookie and a challenge
WEBSOCKET /feed       sends back every byte after the handshake (RFC 6455)
"""

import base64
import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COUNT = [0]


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, headers=()):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def received(self):
        COUNT[0] += 1
        length = int(self.headers.get("content-length", 0))
        return {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": self.rfile.read(length).decode() if length else "",
        }

    def do_GET(self):
        seen = self.received()
        path = self.path.split("?")[0]
        if self.headers.get("upgrade"):
            return self.feed()
        if path == "/v1/count":
            return self.reply(200, {"count": COUNT[0]})
        if path == "/v1/stream":
            return self.stream()
        if path == "/v1/away":
            return self.reply(302, {}, [("location", "http://evil.example.org/")])
        if path == "/v1/here":
            return self.reply(302, {}, [("location", "/v1/customers/7?x=1")])
        if path == "/v1/session":
            return self.reply(200, {}, [("set-cookie", "session=1"), ("www-authenticate", "Basic")])
        if path == "/v1/locked":
            return self.reply(401, {"detail": "who are you?"}, [("www-authenticate", "Basic")])
        self.reply(200, {"received": seen, "ssn": "078-05-1120", "orders": [{"card": "4111"}]})

    def do_POST(self):
        self.reply(201, {"received": self.received()})

    def stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"5\r\ntick\n\r\n")
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            self.close_connection = True

    def feed(self):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", accept)
        self.end_headers()
        self.close_connection = True
        while data := self.connection.recv(4096):
            self.connection.sendall(data)


server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
