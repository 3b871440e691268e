"""Measures the layers on AgentDojo's suites and prints one table for each suite and one for all."""

import argparse
import json
import sys
import tomllib
import warnings
from pathlib import Path

from agentdojo.task_suite.load_suites import get_suites

import agent
import gate
import launder
import through

HERE = Path(__file__).parent


def changing_tools(file):
    """The tools that are annotated and do not only read."""
    tools = tomllib.loads(file.read_text())["tools"]
    return {name for name, tool in tools.items() if not tool.get("reads", False)}


def progress(text):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


class Measured:
    def __init__(self):
        self.tasks = self.alone = self.asked = self.useful = 0
        self.cases = self.words = self.attacked = self.laundered_cases = self.laundered = 0

    def add(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def measure(world, name, judge, layer, laundering, details):
    """All pairs of one suite behind one layer of the engine."""

    def opened(task, purpose, today, scope, *at):
        return gate.Gate(layer, judge, name, task, purpose, today, scope, world.role, world.changing, *at)

    variants = launder.VARIANTS if laundering and layer.provenance else None
    return every_pair(world, name, layer, opened, variants, details)


def in_order(tasks):
    return sorted(tasks.values(), key=lambda task: int(task.ID.rsplit("_", 1)[1]))


def every_pair(world, name, layer, opened, variants, details):
    """The user's tasks of a suite alone, and with each attack."""
    counts = Measured()
    injections = in_order(world.suite.injection_tasks)
    for user in in_order(world.suite.user_tasks):
        progress(f"{name}: {layer.name}: {user.ID}")
        quiet = agent.run(world, opened, user.ID, user)
        counts.tasks += 1
        counts.alone += not quiet.asked and not quiet.denied
        counts.asked += len(quiet.asked)
        counts.useful += quiet.utility
        about = {"suite": name, "layer": layer.name, "task": user.ID}
        for tool, why in quiet.asked:
            details.append({**about, "asked": tool, "why": why})
        for verdict, tool, why in quiet.denied:
            details.append({**about, "denied": tool, "why": why})
        for injection in injections:
            runs = {
                order: agent.run(world, opened, user.ID, user, injection, order == "early", variants)
                for order in ("after", "early")
            }
            counts.cases += 1
            counts.words += not runs["after"].obeyed
            hit = [order for order, run in runs.items() if run.attacked]
            counts.attacked += bool(hit)
            if hit and layer.provenance:
                obeyed = {order: runs[order].obeyed for order in hit}
                details.append({**about, "attack": injection.ID, "got through": obeyed})
            for variant in variants or ():
                through = any(run.laundered.get(variant, False) for run in runs.values())
                counts.laundered_cases += bool(runs["after"].obeyed)
                counts.laundered += through
                if through:
                    details.append({**about, "attack": injection.ID, "laundered": variant})
    return counts


def through_gateway(program, files, details):
    """The same behind a running gateway, with the suites' tools as real MCP servers."""
    suites = get_suites("v1.1.2")
    worlds = {suite: agent.World(suites[suite], changing_tools(file)) for suite, file in files.items()}
    tools = {suite: through.Tools(suites[suite]) for suite in files}
    sallyport = through.Sallyport(program, files, tools)
    for suite, world in worlds.items():
        for user in in_order(world.suite.user_tasks):
            calls = user.ground_truth(user.init_environment(world.environment(None)))
            sallyport.template(suite, user.ID, [call.function for call in calls], world.changing)
    sallyport.start()
    layer = gate.Layer("Sallyport, at its door", provenance=True)
    total = Measured()
    try:
        for suite, world in worlds.items():

            def opened(task, purpose, _today, scope, runtime, environment, suite=suite, world=world):
                tools[suite].runtime, tools[suite].environment = runtime, environment
                return through.Gate(sallyport, suite, task, purpose, scope, world.changing)

            counts = every_pair(world, suite, layer, opened, None, details)
            total.add(counts)
            progress("")
            table(f"{suite}: {counts.tasks} tasks, {counts.cases} attacks", [(layer, counts)])
    finally:
        sallyport.stop()
        for server in tools.values():
            server.stop()
    table("all", [(layer, total)])
    print(f"\nThe log of this run verifies: {sallyport.verified()} records.")
    return total


def table(title, rows):
    print(f"\n{title}")
    print(f"{'defence':<36} {'no human':>9} {'approvals':>10} {'useful':>8} {'attacks':>16} {'laundered':>18}")
    for layer, counts in rows:
        laundered = f"{counts.laundered} of {counts.laundered_cases}" if counts.laundered_cases else ""
        print(
            f"{layer.name:<36} {counts.alone / counts.tasks:>8.1%} {counts.asked / counts.tasks:>10.2f}"
            f" {counts.useful / counts.tasks:>8.1%}"
            f" {f'{counts.attacked} = {counts.attacked / counts.cases:.1%}':>16} {laundered:>18}"
        )


def main():
    warnings.filterwarnings("ignore", module="pydantic")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", nargs="+", default=["workspace", "travel"])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--judge", help="the program of crates/provenance/examples/judge.rs: the engine alone")
    which.add_argument("--through", type=Path, help="the program `sallyport`: the whole way, through a running gateway")
    parser.add_argument("--annotations", type=Path, default=HERE / "annotations")
    parser.add_argument("--no-laundering", action="store_true")
    parser.add_argument("--layers", nargs="+", type=int, help="numbers of layers, from 0")
    parser.add_argument("--details", type=Path, help="where to write what was asked and what got through, as JSON")
    options = parser.parse_args()
    files = {suite: options.annotations / f"{suite}.toml" for suite in options.suites}
    if options.through:
        details = []
        total = through_gateway(options.through, files, details)
        ending(total, options.details, details)
        return
    judge = gate.Judge(options.judge, files)
    layers = [gate.LAYERS[at] for at in options.layers] if options.layers else gate.LAYERS
    totals = {layer.name: Measured() for layer in layers}
    details = []
    for suite in options.suites:
        world = agent.World(get_suites("v1.1.2")[suite], changing_tools(files[suite]))
        rows = []
        for layer in layers:
            counts = measure(world, suite, judge, layer, not options.no_laundering, details)
            rows.append((layer, counts))
            totals[layer.name].add(counts)
        progress("")
        table(f"{suite}: {rows[0][1].tasks} tasks, {rows[0][1].cases} attacks", rows)
    judge.close()
    rows = [(layer, totals[layer.name]) for layer in layers]
    table("all", rows)
    ending(rows[0][1], options.details, details)
    print(
        "Laundered: the attack's calls would all go on with one or all of their strings written in another way."
    )


def ending(counts, file, details):
    print(
        f"\n{counts.words} of the {counts.cases} attacks only ask the agent to say something; they make no call, which"
        "\nno gateway can see, and count as not succeeded. An attack succeeds if it does in one of two orders:"
        "\nobeyed after the user's task, or as soon as it is read."
    )
    if file:
        file.write_text("\n".join(json.dumps(one, default=str) for one in details) + "\n")


if __name__ == "__main__":
    main()
