"""Sends requests with an HTTP client of Python as it is: what it knows of a proxy, it has from its environment.

Reads a plan from standard input, {"client": "requests" | "httpx" | "websockets", "requests": [{"method", "url", "json"}]},
and prints what came of each: {"status", "body"}, or {"error"}.
"""

import json
import sys


def requests_client():
    import requests

    session = requests.Session()

    def send(method, url, body):
        answer = session.request(method, url, json=body, timeout=60)
        return answer.status_code, answer.text

    return send


def httpx_client():
    import httpx

    client = httpx.Client(timeout=60)

    def send(method, url, body):
        answer = client.request(method, url, json=body)
        return answer.status_code, answer.text

    return send


def websockets_client():
    from websockets.sync.client import connect

    def send(_, url, body):
        with connect(url, open_timeout=60, close_timeout=5) as socket:
            socket.send(json.dumps(body))
            return 101, socket.recv(timeout=60)

    return send


def main():
    plan = json.load(sys.stdin)
    send = {"requests": requests_client, "httpx": httpx_client, "websockets": websockets_client}[plan["client"]]()
    results = []
    for step in plan["requests"]:
        try:
            status, body = send(step.get("method", "GET"), step["url"], step.get("json"))
            results.append({"status": status, "body": body})
        except Exception as error:  # What the user of the client would see.
            results.append({"error": f"{type(error).__name__}: {error}"})
    json.dump(results, sys.stdout)


main()
