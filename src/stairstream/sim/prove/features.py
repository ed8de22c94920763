"""The features of a case and of its run, by name: what a number of seeds without a violation has been through."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import chain
from operator import attrgetter

from stairstream.core.events import AgentEnded, Called, Event, Noted, RunEnded, StepEnded, StepStarted, Thought, Wrote
from stairstream.core.policy import PRESETS
from stairstream.sim.prove.case import Case, ModelCase
from stairstream.sim.prove.played import Played

_NAMES = {policy: name for name, policy in PRESETS.items()}
_MODEL = tuple(one.name for one in fields(ModelCase) if one.name not in ("name", "tokens", "faults", "usage"))
_values = attrgetter(*_MODEL)
_PLAIN = _values(ModelCase(name="", tokens=()))


def features_of(played: Played) -> frozenset[str]:
    """Each at most once for a run: `group: feature`."""
    return frozenset([*_of_case(played.case), *_of_runs(played), *chain(*map(_of_events, played.all_events))])


def _of_runs(played: Played) -> Iterator[str]:
    if played.others:
        yield f"runs at once: {len(played.runs)}"
    if any(one.gave_up_s is not None for one in played.runs):
        yield "run: gives up waiting for slots"
    stays = [stay for stays in played.tape.shared.stays.values() for stay in stays]
    if any(stay.got is not None and stay.got[1] > stay.asked[1] for stay in stays):
        yield "run: waits for slots"
    if played.holders:
        yield f"holders: {len(played.holders)}"


def _of_case(case: Case) -> Iterator[str]:
    yield f"topology: {case.topology}"
    yield f"agents: {len(case.graph.agents)}"
    yield f"layers: {max(agent.depth for agent in case.graph.agents) + 1}"
    for name in ("written", "deadline_s", "max_cost", "pace", "leaves_s", "shut_down_s"):
        if getattr(case, name) not in ("", None, "raw"):
            yield f"run: {name}"
    if case.knows_rates:
        yield "run: rates known before"
    for client in case.clients:
        yield "client: reads slowly" if client.pause_s else "client: reads at once"
        if client.leaves_after is not None:
            yield "client: leaves and comes back"
    for agent in case.graph.agents:
        if agent.reads:
            yield f"policy: {_NAMES.get(agent.policy, 'any numbers')}"
        if agent.sampling.stop:
            yield "agent: stop strings"
        for name in ("fallbacks", "one_call", "agreement", "context_tokens", "thinking_tokens"):
            if getattr(agent, name):
                yield f"agent: {name}"
        if agent.edges != "token":
            yield f"agent: edges at a {agent.edges}"
        if agent.forward != "answer":
            yield f"agent: forwards {agent.forward}"
        if agent.extras.tools is not None:
            yield "agent: tools"
    for model in case.models.values():
        for _, fault in model.faults:
            yield f"fault: {fault.kind}"
        yield f"usage: {model.usage}"
        if (values := _values(model)) != _PLAIN:
            yield from (
                f"model: {name}" for name, own, plain in zip(_MODEL, values, _PLAIN, strict=True) if own != plain
            )


def _of_events(events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        match event:
            case AgentEnded():
                yield f"an agent ends by {event.reason}"
            case RunEnded():
                yield f"the run ends by {event.reason}"
                if event.degraded:
                    yield "the run: degraded"
            case StepEnded():
                yield f"a step ends by {event.reason}"
            case Noted():
                yield f"note: {event.note.kind}"
            case StepStarted() if event.step:
                yield "an update"
            case Called():
                yield "a call of a tool"
            case Thought():
                yield "a thought"
            case Wrote():
                pass
            case _:
                pass
