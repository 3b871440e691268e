"""What stands between the agent and the tools: one layer of defence, and the engine that judges."""

import json
import subprocess
from collections import Counter

from agent import plain


class Judge:
    """The engine of crates/provenance, as a child process that answers line by line."""

    def __init__(self, program, annotations):
        command = [program] + [f"{server}={file}" for server, file in annotations.items()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **what):
        self.process.stdin.write(json.dumps(what, default=str) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the judge ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Layer:
    """One layer: which tools a task may call, how often, and whether arguments are checked."""

    def __init__(self, name, tools="all", budget=False, provenance=False):
        self.name, self.tools, self.budget, self.provenance = name, tools, budget, provenance


LAYERS = [
    Layer("none"),
    Layer("allow-list per agent role", tools="role"),
    Layer("provenance alone", provenance=True),
    Layer("tools scoped to the task", tools="task"),
    Layer("+ budget per tool", tools="task", budget=True),
    Layer("scoped tools + provenance", tools="task", provenance=True),
    Layer("scoped tools + provenance + budget", tools="task", budget=True, provenance=True),
]
FULL = LAYERS[-1]


class Gate:
    """One task behind one layer."""

    def __init__(self, layer, judge, server, task, purpose, today, scope, role, changing, runtime, environment):
        self.runtime, self.environment = runtime, environment
        self.layer, self.judge, self.server, self.task = layer, judge, server, task
        self.tools = {"all": None, "role": role, "task": set(scope)}[layer.tools]
        # As a template would say it: so many calls of each tool that changes something.
        self.left = Counter(tool for tool in scope if tool in changing) if layer.budget else None
        self.changing = changing
        if layer.provenance:
            judge.ask(do="open", task=task, purpose=purpose, today=today)

    def decide(self, tool, arguments):
        """`None` when the call may go on, `deny` or `ask`, each with the reason."""
        if self.tools is not None and tool not in self.tools:
            return "deny", "not a tool of this task"
        if self.left is not None and tool in self.changing and self.left[tool] <= 0:
            return "deny", "the task's budget for this tool is used up"
        if self.layer.provenance:
            answer = self.judge.ask(do="check", task=self.task, server=self.server, tool=tool, arguments=arguments)
            if not answer["accepted"]:
                return "ask", answer["says"]
        return None, ""

    def call(self, tool, arguments, approve):
        """The result, and what became of the call: `None`, `deny` or `ask`, with the reason. What is asked goes on
        if it is approved."""
        verdict, why = self.decide(tool, arguments)
        if verdict is not None and not (verdict == "ask" and approve):
            return None, verdict, why
        try:
            result = plain(self.runtime.run_function(self.environment, tool, arguments, raise_on_error=True)[0])
        except Exception as error:  # what a tool says about wrong arguments is a result too
            result = {"isError": True, "content": [{"type": "text", "text": str(error)}]}
        self.forwarded(tool, arguments, result)
        return result, verdict, why

    def forwarded(self, tool, arguments, result):
        if self.left is not None and tool in self.changing:
            self.left[tool] -= 1
        if self.layer.provenance:
            self.judge.ask(
                do="result", task=self.task, server=self.server, tool=tool, arguments=arguments, result=result
            )

    def close(self):
        if self.layer.provenance:
            self.judge.ask(do="close", task=self.task)
