"""What the measuring scripts share: building, starting and ending programs, a Sallyport of their own with an agent that
is enrolled, and measuring several things in turn."""

import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def build(*packages):
    """Builds sallyport and the benchmark's programs (release); the folder that they are in."""
    say("building (release) …")
    packages = [part for package in packages or ("sallyport", "sallyport-bench") for part in ("-p", package)]
    subprocess.run(["cargo", "build", "--release", "--locked", *packages], cwd=ROOT, check=True)
    about = subprocess.run(
        ["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=ROOT, check=True, capture_output=True
    )
    return Path(json.loads(about.stdout)["target_directory"]) / "release"


def wait_for(port, path=None, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if path is None:
                socket.create_connection(("127.0.0.1", port), 1).close()
            else:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1).close()
            return
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"nothing answers on port {port}")


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def alternately(subjects, rounds, measure):
    """What `measure` says of each subject in each round. The order turns round each time, so that whatever gets slower
    or faster meanwhile does so for all."""
    seen = {subject: [] for subject in subjects}
    for number in range(rounds):
        for subject in list(subjects) if number % 2 == 0 else list(subjects)[::-1]:
            seen[subject].append(measure(subject))
    return seen


def medians(seen, *names):
    """The median of each of these numbers, by subject."""
    middle = lambda results, name: round(statistics.median(one[name] for one in results), 1)  # noqa: E731
    return {subject: {name: middle(results, name) for name in names} for subject, results in seen.items()}


class Run:
    """Everything that was started, so that it can be ended, and the folder that it was started in."""

    def __init__(self, programs):
        self.programs = Path(programs).resolve()
        self.dir = Path(tempfile.mkdtemp(prefix="sallyport-bench-"))
        self.children = []

    def start(self, name, *command, cwd=None, ends_with=signal.SIGTERM):
        log = (self.dir / f"{name}.log").open("wb")
        child = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=cwd or self.dir)
        self.children.append((child, ends_with))
        return child

    def stop(self):
        for child, ends_with in reversed(self.children):
            child.send_signal(ends_with)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def done(self, *command, cwd=None, **environment):
        """Runs a program to its end; what it says."""
        command = [str(part) for part in command]
        environment = {**os.environ, **environment}
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd or self.dir, env=environment)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def measured(self, program, *arguments):
        """Runs one of the benchmark's programs; what it measured."""
        result = json.loads(self.done(self.programs / program, *arguments))
        if result.get("failed"):
            raise SystemExit(f"{program}: {result['failed']} failed, first {result['first_failure']}")
        return result

    def sallyport(self, *arguments, **environment):
        return self.done(self.programs / "sallyport", *arguments, **environment)

    def write(self, files):
        """Writes texts into files of the folder, by path."""
        for path, text in files.items():
            path = self.dir / path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def serve(self, control):
        """Starts Sallyport with the files of the folder; it is ready when this returns."""
        child = self.start("sallyport", self.programs / "sallyport", "serve")
        try:
            wait_for(control, "/readyz")
        except SystemExit as error:
            raise SystemExit(f"{error}: {(self.dir / 'sallyport.log').read_text()}") from None
        return child

    def enrol(self, control, agent="bench", segment="bench"):
        """Registers an agent and enrols an instance of it; the instance's folder, which has the agent's name."""
        wanted = ["--sponsor", "bench@example.org", "--segment", segment, "--json"]
        made = json.loads(self.sallyport("agent", "register", agent, *wanted))
        instance = self.dir / "instances" / agent
        instance.parent.mkdir(exist_ok=True)
        self.sallyport(
            "agent", "enroll", "--control", f"http://127.0.0.1:{control}", "--instance", instance,
            SALLYPORT_ENROLMENT_TOKEN=made["enrolment"]["token"],
        )  # fmt: skip
        return instance

    def open_task(self, template, agent="bench"):
        return json.loads(self.sallyport("task", "open", "--agent", agent, "--template", template, "--json"))["id"]

    def operator(self, control):
        """Asks the management API, over one connection."""
        return Operator(control, (self.dir / "data/operator.token").read_text().strip())

    def verified(self):
        """How many records the log has; it verifies."""
        return json.loads(self.sallyport("audit", "verify", "--json"))["records"]


class Operator:
    """Who may do everything, for what is done so often that a command each time would take too long."""

    def __init__(self, control, token):
        self.connection = http.client.HTTPConnection("127.0.0.1", control)
        self.headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def ask(self, path, **members):
        self.connection.request("POST", path, json.dumps(members), self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status // 100 != 2:
            raise SystemExit(f"{path} is answered with {answer.status}: {body.decode()}")
        return json.loads(body)

    def open_tasks(self, count, template, agent="bench"):
        """The ids of so many new tasks."""
        return [self.ask("/v1/tasks", agent=agent, template=template)["id"] for _ in range(count)]

    def complete(self, tasks):
        for task in tasks:
            self.ask(f"/v1/tasks/{task}/complete")
