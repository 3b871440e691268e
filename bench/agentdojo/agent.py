"""The worst-case agent: it does the user's task as the ground truth says, and obeys everything that
an injection says, completely and every time. No model is involved, so the numbers are exact."""

import copy
import json

from agentdojo.functions_runtime import FunctionsRuntime
from pydantic import BaseModel

MARK = "Xq7Injected{}Mark"


def plain(value):
    """A tool's result as a server sends it: JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def _replace(value, marks):
    """Puts the texts where the marks are, in place, everywhere in an environment."""
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, list):
        return [_replace(item, marks) for item in value]
    if isinstance(value, dict):
        return {key: _replace(item, marks) for key, item in value.items()}
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            old = getattr(value, name)
            new = _replace(old, marks)
            if new is not old:
                object.__setattr__(value, name, new)
                value.__dict__[name] = new
        return value
    return value


class World:
    """One suite: its environments, tools and tasks."""

    def __init__(self, suite, changing):
        self.suite, self.changing = suite, changing
        self.defaults = suite.get_injection_vector_defaults()
        self.marks = {vector: MARK.format(at) for at, vector in enumerate(sorted(self.defaults))}
        self.marked = suite.load_and_inject_default_environment(self.marks)
        self.clean = suite.load_and_inject_default_environment({})
        self.role = {
            call.function
            for task in suite.user_tasks.values()
            for call in task.ground_truth(self.environment(None))
        }

    def environment(self, injected):
        """A fresh environment; in every place that an attacker can write, the injected text follows what
        stands there."""
        if injected is None:
            return copy.deepcopy(self.clean)
        texts = {self.marks[vector]: f"{default}\n{injected}" for vector, default in self.defaults.items()}
        return _replace(copy.deepcopy(self.marked), texts)


def _map_strings(value, change):
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _map_strings(item, change) for key, item in value.items()}
    return value


def strings(value, path=()):
    """Every string in some arguments, with the path that leads to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from strings(item, (*path, at))


def with_string(value, path, text):
    """The arguments with another string at one place."""
    if not path:
        return text
    changed = copy.copy(value)
    changed[path[0]] = with_string(value[path[0]], path[1:], text)
    return changed


class Outcome:
    """What happened in one run."""

    def __init__(self):
        self.asked, self.denied, self.obeyed, self.refused = [], [], [], []
        self.utility = self.attacked = False
        self.laundered = {}


def run(world, opened, name, user_task, injection_task=None, early=False, variants=None):
    """One run: the user's task, and if there is an injection its calls, either after the task's own (`early`
    false) or as soon as the agent has read it. A person approves what the user's task asks for and refuses what
    the injection does. With `variants`, it is also judged whether the injection's calls would go on with one of
    their strings, or all, written in another way."""
    runtime = FunctionsRuntime(world.suite.tools)
    outcome = Outcome()
    injected = None
    if injection_task is not None:
        foreseen = [(call.function, call.args) for call in injection_task.ground_truth(world.environment(""))]
        laundered = [change(text, user_task.PROMPT) for change in (variants or {}).values()
                     for _, arguments in foreseen for _, text in strings(arguments)]
        injected = "\n".join([injection_task.GOAL, json.dumps(foreseen, ensure_ascii=False, default=str), *laundered])
    environment = user_task.init_environment(world.environment(injected))
    before = environment.model_copy(deep=True)
    calls = [(call.function, dict(call.args)) for call in user_task.ground_truth(environment)]
    today = getattr(getattr(environment, "calendar", None), "current_day", None)
    gate = opened(name, user_task.PROMPT, today, [tool for tool, _ in calls], runtime, environment)

    def call(tool, arguments, approve, refused):
        result, verdict, why = gate.call(tool, arguments, approve)
        if verdict == "ask" and approve:
            outcome.asked.append((tool, why))
        elif verdict is not None:
            refused.append((verdict, tool, why))
        return result

    def judge(variants):
        attack = [(call.function, dict(call.args)) for call in injection_task.ground_truth(environment)]
        attack = [(tool, arguments) for tool, arguments in attack if tool in world.changing]
        for variant, change in variants.items():
            every = [(tool, _map_strings(arguments, lambda text: change(text, user_task.PROMPT)))
                     for tool, arguments in attack]
            through = bool(every) and all(gate.decide(*one)[0] is None for one in every)
            for at, (tool, arguments) in enumerate(attack):
                others = all(gate.decide(*one)[0] is None for one in attack[:at] + attack[at + 1 :])
                for path, text in strings(arguments):
                    changed = with_string(arguments, path, change(text, user_task.PROMPT))
                    through |= others and changed != arguments and gate.decide(tool, changed)[0] is None
            outcome.laundered[variant] = through

    def obey():
        if variants:
            judge(variants)
        for one in injection_task.ground_truth(environment):
            result = call(one.function, dict(one.args), False, outcome.refused)
            outcome.obeyed.append((one.function, result is not None))

    pending = injection_task is not None
    for tool, arguments in calls:
        result = call(tool, arguments, True, outcome.denied)
        if pending and early and injection_task.GOAL in "\n".join(text for _, text in strings(result)):
            obey()
            pending = False
    if pending:
        obey()
    gate.close()
    # What the agent says in the end is the user's; words alone are no call and not the gateway's matter.
    said = user_task.GROUND_TRUTH_OUTPUT
    traced = user_task.utility_from_traces(said, before, environment, [])
    outcome.utility = bool(user_task.utility(said, before, environment) if traced is None else traced)
    if injection_task is not None:
        # The suites look for what the attack wrote; the text of the injection itself must not stand in the way.
        pristine = [_replace(copy.deepcopy(one), {f"\n{injected}": ""}) for one in (before, environment)]
        outcome.attacked = bool(injection_task.security(said, *pristine))
    return outcome
