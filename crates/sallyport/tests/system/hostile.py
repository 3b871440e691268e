"""A server over pipes that tries what it is told to, and says what came of it."""

import ctypes
import json
import os
import resource
import signal
import sys
import tempfile

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_DETACH = 16, 17


def read(path):
    with open(path, "rb") as file:
        return file.read(1 << 16).decode(errors="replace")


def write(path):
    with open(path, "a") as file:
        file.write("x")


def through_link(path):
    """Names the path anew where links can be made."""
    folder = tempfile.mkdtemp()
    os.symlink(path, folder + "/link")
    return read(folder + "/link")


def through_hard_link(path):
    folder = tempfile.mkdtemp()
    os.link(path, folder + "/link")
    return read(folder + "/link")


def through_folders(path):
    """The same path by way of this process's own view of the root."""
    return read("/proc/self/root" + os.path.dirname(path) + "/../" + path.split("/")[-2] + "/" + path.split("/")[-1])


def trace(process):
    if LIBC.ptrace(PTRACE_ATTACH, process, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(process, 0)
    LIBC.ptrace(PTRACE_DETACH, process, None, None)


def memory(size):
    return len(bytearray(size))


def long_file(size):
    with tempfile.TemporaryFile() as file:
        file.truncate(size)


def facts(_):
    return {
        "files": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "group": os.getpgid(0) == os.getpid(),
        "temporary": tempfile.gettempdir(),
        "limits": {
            name: resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1]
            for name in ["CORE", "NPROC", "NOFILE", "DATA", "FSIZE"]
        },
        "privileges": read("/proc/self/status"),
    }


def fork(_):
    """Children that can be started at once, up to a hundred."""
    children = []
    try:
        for _ in range(100):
            child = os.fork()
            if child == 0:
                os.read(GATE[0], 1)
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return len(children)


GATE = os.pipe()
ATTEMPTS = {
    "read": read,
    "write": write,
    "list": lambda path: sorted(os.listdir(path)),
    "make": lambda path: os.mkdir(path),
    "remove": os.unlink,
    "move": lambda path: os.rename(path, tempfile.mkdtemp() + "/moved"),
    "empty": lambda path: os.truncate(path, 0),
    "through_link": through_link,
    "through_hard_link": through_hard_link,
    "through_folders": through_folders,
    "trace": trace,
    "signal": lambda process: os.kill(process, 0),
    "memory": memory,
    "long_file": long_file,
    "facts": facts,
    "fork": fork,
}


def attempt(how, what):
    try:
        return {"done": ATTEMPTS[how](what)}
    except (OSError, MemoryError) as error:
        return {"refused": type(error).__name__, "errno": getattr(error, "errno", None)}


signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params", {})
    if "id" not in message:
        continue
    if method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "resultType": "complete"}
    elif method == "tools/call":
        arguments = params["arguments"]
        text = json.dumps(attempt(arguments["how"], arguments.get("what")))
        result = {"content": [{"type": "text", "text": text}], "resultType": "complete"}
    else:
        result = {"resultType": "complete", "tools": []}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
