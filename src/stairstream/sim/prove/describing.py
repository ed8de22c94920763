"""A case in words: only what is not as usual, so that a shrunk one is read at a glance."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from stairstream.core.graph import Agent
from stairstream.core.policy import PRESETS, Policy
from stairstream.sim.prove.case import Case, ModelCase

_AGENT = Agent(name="", model="")
_MODEL = ModelCase(name="", tokens=())
_NAMES = {policy: name for name, policy in PRESETS.items()}
_ENDS = (
    "written",
    "deadline_s",
    "max_cost",
    "pace",
    "leaves_s",
    "shut_down_s",
    "knows_rates",
    "deaths",
    "comes_s",
    "gives_up_s",
)
_SHOWN_ELSEWHERE = {"name", "model", "reads", "policy", "sampling", "wording", "depth", "instructions"}


def describe(case: Case) -> list[str]:
    """Lines: the run, then its agents, then its models."""
    run = [f"{name}={getattr(case, name)!r}" for name in _ENDS if getattr(case, name) not in ("", None, "raw", 0.0, {})]
    run += [f"{engine}" for engine in case.engines]
    run += [f"client {client}" for client in case.clients]
    lines = [f"seed {case.seed}: {case.topology}, answered by {case.graph.answer} {', '.join(run)}".rstrip()]
    lines += [f"  agent {_agent(agent)}" for agent in case.graph.agents]
    lines += [f"  model {_model(model)}" for model in case.models.values()]
    for other in case.others:
        lines += describe(replace(other, models={}))
    return lines


def _agent(agent: Agent) -> str:
    found = [f"{agent.name} on {agent.model}, max_tokens={agent.sampling.max_tokens}"]
    if agent.reads:
        found.append(f"reads {' '.join(agent.reads)}, {_policy(agent.policy)}")
    if agent.sampling.stop:
        found.append(f"stop={agent.sampling.stop!r}")
    return ", ".join([*found, *_unusual(agent, _AGENT, _SHOWN_ELSEWHERE)])


def _policy(policy: Policy) -> str:
    if policy in _NAMES:
        return f"policy {_NAMES[policy]}"
    return "policy " + " ".join(f"{one.name}={getattr(policy, one.name)}" for one in fields(policy))


def _model(model: ModelCase) -> str:
    faults = [f"call {call}: {fault.kind} after {fault.after_tokens} tokens" for call, fault in model.faults]
    said = ", ".join([*_unusual(model, _MODEL, {"name", "tokens", "faults"}), *faults])
    return f"{model.name}: {len(model.tokens)} tokens {''.join(model.tokens)!r}{', ' if said else ''}{said}"


def _unusual(one: Any, usual: Any, hidden: set[str]) -> Iterator[str]:
    for field in fields(one):
        value = getattr(one, field.name)
        if field.name not in hidden and value != getattr(usual, field.name):
            yield f"{field.name}={value!r}"
