"""The real thing between the agent and the tools: a suite's tools as an MCP server, a running Sallyport in front of
it, and an agent that comes with a token of its own. What decides, records and refuses is the gateway."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

import jwt
import mcp.types as types
import uvicorn
from mcp.server.lowlevel import Server

from agent import plain

REVISION = "2026-07-28"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Tools:
    """The tools of a suite as an MCP server (streamable HTTP) over whatever environment is set."""

    def __init__(self, suite):
        self.suite, self.port = suite, free_port()
        self.runtime = self.environment = None
        server = Server("agentdojo", on_list_tools=self._list, on_call_tool=self._call)
        app = server.streamable_http_app(stateless_http=True, json_response=True)
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    async def _list(self, _context, _params):
        tools = [
            types.Tool(name=tool.name, description=tool.description, input_schema=tool.parameters.model_json_schema())
            for tool in self.suite.tools
        ]
        return types.ListToolsResult(tools=tools)

    async def _call(self, _context, params):
        try:
            arguments = params.arguments or {}
            result = plain(self.runtime.run_function(self.environment, params.name, arguments, raise_on_error=True)[0])
        except Exception as error:  # what a tool says about wrong arguments is a result too
            return types.CallToolResult(content=[types.TextContent(type="text", text=str(error))], is_error=True)
        text = json.dumps(result, ensure_ascii=False, default=str)
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])

    def stop(self):
        self.server.should_exit = True
        self.thread.join(10)


class Sallyport:
    """A running gateway in front of the tools of some suites, with an agent that is enrolled."""

    def __init__(self, program, annotations, tools):
        self.program, self.tools = Path(program).resolve(), tools
        self.dir = Path(tempfile.mkdtemp(prefix="sallyport-agentdojo-"))
        self.control, self.gateway = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        for folder in ("templates", "policies", "annotations"):
            (self.dir / folder).mkdir()
        (self.dir / "policies/all.cedar").write_text("permit(principal, action, resource);\n")
        servers = ""
        for suite, file in annotations.items():
            (self.dir / f"annotations/{suite}.toml").write_text(Path(file).read_text())
            servers += f'[servers.{suite}]\nurl = "http://127.0.0.1:{tools[suite].port}/mcp"\n'
        (self.dir / "sallyport.toml").write_text(
            f'trust_domain = "example.org"\n[control]\nlisten = "{self.control[7:]}"\n'
            f'[gateway]\nlisten = "{self.gateway[7:]}"\n'
            "[approvals]\nwaiting_per_task = 100\n" + servers
        )
        self.templates = {}
        self.process = None

    def start(self):
        log = (self.dir / "sallyport.log").open("wb")
        self.process = subprocess.Popen([self.program, "serve"], cwd=self.dir, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"{self.control}/readyz", timeout=1).close()
                break
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise SystemExit((self.dir / "sallyport.log").read_text()) from None
                time.sleep(0.01)
        self.operator = (self.dir / "data/operator.token").read_text().strip()
        self.connections = {"control": None, "gateway": None}
        made = self.manage("POST", "/v1/agents", {"name": "worst-case", "sponsor": "bench@example.org"})
        token = self.manage("POST", f"/v1/agents/{made['name']}/enrolment", {})["token"]
        subprocess.run(
            [self.program, "agent", "enroll", "--control", self.control, "--instance", self.dir / "instance"],
            env={**os.environ, "SALLYPORT_ENROLMENT_TOKEN": token},
            check=True,
            capture_output=True,
        )
        self.client = json.loads((self.dir / "instance/instance.json").read_text())["id"]
        self.key = (self.dir / "instance/key.pem").read_bytes()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def _send(self, where, method, path, headers, body):
        """One request over a connection that is kept."""
        for _ in range(2):
            if self.connections[where] is None:
                base = self.control if where == "control" else self.gateway
                self.connections[where] = http.client.HTTPConnection(base[7:], timeout=60)
            try:
                self.connections[where].request(method, path, body, headers)
                answer = self.connections[where].getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError):
                self.connections[where] = None
        raise RuntimeError(f"no answer from the {where}")

    def manage(self, method, path, body=None):
        headers = {"authorization": f"Bearer {self.operator}", "content-type": "application/json"}
        status, text = self._send("control", method, path, headers, None if body is None else json.dumps(body))
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {text.decode()}")
        return json.loads(text)

    def template(self, suite, task, scope, changing):
        """The template that an administrator would write for this kind of task: its tools, and so many calls of each
        that changes something."""
        name = f"{suite}-{task.replace('_', '-')}"
        budget = Counter(tool for tool in scope if tool in changing)
        text = f'description = "{name}"\nagents = ["*"]\nttl = "1h"\nproof = "bearer"\nbudget = {{ calls = 10000 }}\n'
        for tool in sorted(set(scope)):
            text += f'\n[[allow]]\nserver = "{suite}"\ntools = ["{tool}"]\n'
            if tool in budget:
                text += f"max_calls = {budget[tool]}\n"
        if self.templates.get(name) != text:
            self.templates[name] = text
            (self.dir / f"templates/{name}.toml").write_text(text)
            if self.process is not None:
                self.manage("POST", "/v1/reload", {})
        return name

    def verified(self):
        """How many records the log has, when it verifies from the first to the last."""
        command = [self.program, "audit", "verify", "--json"]
        done = subprocess.run(command, cwd=self.dir, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["records"]

    def open(self, template, purpose):
        body = {"agent": "worst-case", "template": template, "purpose": purpose}
        return self.manage("POST", "/v1/tasks", body)["id"]

    def token(self, suite, task):
        now = int(time.time())
        claims = {"iss": self.client, "sub": self.client, "aud": self.control, "iat": now, "exp": now + 60}
        assertion = jwt.encode({**claims, "jti": secrets.token_hex(16)}, self.key, algorithm="ES256")
        form = urlencode(
            {
                "grant_type": "client_credentials",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": assertion,
                "scope": "mcp",
                "resource": f"{self.gateway}/mcp/{suite}",
                "authorization_details": json.dumps([{"type": "sallyport_task", "task": task}]),
            }
        )
        headers = {"content-type": "application/x-www-form-urlencoded"}
        status, text = self._send("control", "POST", "/oauth/token", headers, form)
        if status != 200:
            raise RuntimeError(f"no token: {text.decode()}")
        return json.loads(text)["access_token"]

    def call(self, suite, token, tool, arguments):
        meta = {
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": {"name": "worst-case", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        body = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments, "_meta": meta},
        }
        headers = {
            "authorization": f"Bearer {token}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": REVISION,
            "mcp-method": "tools/call",
            "mcp-name": tool,
        }
        text = json.dumps(body, default=str)
        _, answer = self._send("gateway", "POST", f"/mcp/{suite}", headers, text)
        return json.loads(answer)


class Gate:
    """One task at the gateway. A person approves what the user's task asks for, and refuses the rest."""

    def __init__(self, sallyport, suite, name, purpose, scope, changing):
        self.sallyport, self.suite = sallyport, suite
        template = sallyport.template(suite, name, scope, changing)
        self.task = sallyport.open(template, purpose)
        self.bearer = sallyport.token(suite, self.task)

    def call(self, tool, arguments, approve):
        """The result, and what became of it: `None`, `ask` or `deny`, with the reason."""
        answer = self.sallyport.call(self.suite, self.bearer, tool, arguments)
        if "error" not in answer:
            return self._result(answer), None, ""
        data = answer["error"].get("data") or {}
        why = answer["error"]["message"]
        request = (data.get("access_request") or {}).get("task")
        if request is None:
            return None, "deny", why
        action = "approve" if approve else "deny"
        self.sallyport.manage("POST", f"/v1/approvals/{request['id']}/{action}", {})
        if not approve:
            return None, "ask", why
        answer = self.sallyport.call(self.suite, self.bearer, tool, arguments)
        if "error" in answer:
            return None, "deny", answer["error"]["message"]
        return self._result(answer), "ask", why

    @staticmethod
    def _result(answer):
        result = answer["result"]
        text = result["content"][0]["text"] if result.get("content") else "null"
        if result.get("isError"):
            return {"isError": True, "content": [{"type": "text", "text": text}]}
        return json.loads(text)

    def close(self):
        self.sallyport.manage("POST", f"/v1/tasks/{self.task}/complete", {})
