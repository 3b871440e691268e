"""A server over pipes that misbehaves on request. Its argument says which era it claims to be of:
legacy, modern, or mute (which ignores the question)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

ERA = sys.argv[1]
LOCK = threading.Lock()
CANCELLED = []
MARKS = []
ASKED = {}


def write(text):
    with LOCK:
        sys.stdout.write(text)
        sys.stdout.flush()


def say(message):
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def answer(ident, result):
    say({"id": ident, "result": result})


def slow(ident, params):
    time.sleep(params["seconds"])
    answer(ident, {"tag": params.get("tag")})


def handle(message):
    method, ident, params = message.get("method"), message.get("id"), message.get("params", {})
    if method is None:
        answer(ASKED.pop(ident), {"client_said": message.get("result")})
    elif method == "initialize":
        if ERA == "modern":
            say({"id": ident, "error": {"code": -32601, "message": "no such method"}})
        else:
            answer(ident, {"protocolVersion": "2025-11-25", "capabilities": {}})
    elif method == "server/discover":
        if ERA == "modern":
            answer(ident, {"supportedVersions": ["2026-07-28"], "resultType": "complete"})
        elif ERA == "legacy":
            say({"id": ident, "error": {"code": -32601, "message": "no such method"}})
    elif method == "notifications/cancelled":
        CANCELLED.append(params["requestId"])
    elif method.startswith("notifications/"):
        pass
    elif method == "x/facts":
        limits = open("/proc/self/limits").read()
        answer(ident, {
            "pid": os.getpid(), "group": os.getpgid(0), "env": dict(os.environ), "cwd": os.getcwd(),
            "cancelled": CANCELLED, "marks": MARKS, "meta": params.get("_meta"), "limits": limits, "id": ident,
        })
    elif method == "x/slow":
        threading.Thread(target=slow, args=(ident, params), daemon=True).start()
    elif method == "x/never":
        pass
    elif method == "x/notes":
        for number in range(params["count"]):
            say({"method": "notifications/message", "params": {"data": number}})
            time.sleep(params.get("pause", 0))
        answer(ident, {})
    elif method == "x/change":
        say({"method": "notifications/tools/list_changed"})
        answer(ident, {})
    elif method == "x/ask":
        ASKED["from-server"] = ident
        say({"id": "from-server", "method": "roots/list"})
    elif method == "x/array":
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": 1}}
        write(json.dumps([note, {"jsonrpc": "2.0", "id": ident, "result": {"in": "array"}}]) + "\n")
    elif method == "x/long":
        answer(ident, {"text": "x" * params["length"]})
    elif method == "x/garbage":
        write("this is no message\n" * params["lines"])
        answer(ident, {})
    elif method == "x/broken":
        write('{"jsonrpc":"2.0","id":%d,"result":{"a":1,"a":2,}}\n' % ident)
    elif method == "x/endless":
        while True:
            write("x" * 65536)
    elif method == "x/mark":
        MARKS.append(params["mark"])
        answer(ident, {})
    elif method == "x/doze":
        time.sleep(params["seconds"])
        answer(ident, {})
    elif method == "x/deaf":
        time.sleep(1000)
    elif method == "x/stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=lambda: time.sleep(1000)).start()
        answer(ident, {"pid": os.getpid()})
    elif method == "x/offspring":
        child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
        answer(ident, {"pid": child.pid})
    elif method == "x/complain":
        print("secret is " + os.environ["SECRET"], file=sys.stderr, flush=True)
        answer(ident, {})
    elif method == "x/die":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        say({"id": ident, "error": {"code": -32601, "message": "no such method"}})


for line in sys.stdin:
    try:
        message = json.loads(line)
    except ValueError:
        continue
    handle(message)
