"""Whatever one proposer does, it never holds the answer: in virtual time, against the run without it."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.decisions import SILENCE_FACTOR, SILENCE_S
from stairstream.core.edges import Edges
from stairstream.core.events import RunEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.metrics import Summary, summarize
from stairstream.core.policy import PRESETS, Policy, quorum_of
from tests.engine.staircase import play

CALL_S = 0.2
"""From a call of the aggregator to its first token: what one update costs."""


def odd(length: int, fault: Fault | None = None, thoughts: int = 0, slower: float = 1, late_s: float = 0.0) -> Script:
    return Script(
        words=numbered_words("x", length),
        thoughts=("hm ",) * thoughts,
        first_token_s=CALL_S * slower + late_s,
        token_s=0.02 * slower,
        fault=fault,
    )


MANNERS: dict[str, Callable[[int], Script]] = {
    "slow": lambda length: odd(length, slower=10),
    "a little slow": lambda length: odd(length, slower=2),
    "silent": lambda length: odd(length, late_s=1e6),
    "late": lambda length: odd(length, late_s=3),
    "brief": lambda length: odd(3),
    "refusing": lambda length: odd(20),
    "empty": lambda length: odd(length, Fault(kind="empty")),
    "thinking for ever": lambda length: odd(length, thoughts=2000),
    "dying before its first word": lambda length: odd(length, Fault(kind="status_500")),
    "dying": lambda length: odd(length, Fault(kind="cut", after_tokens=40)),
    "stalling": lambda length: odd(length, Fault(kind="hang", after_tokens=40)),
    "stalling after a word": lambda length: odd(length, Fault(kind="hang", after_tokens=1)),
    "flapping": lambda length: odd(length, Fault(kind="status_500", every=2)),
}


def mixture_of(names: list[str], policy: Policy, deadline_s: float | None = None) -> Graph:
    proposers = (Agent(name=name, model=name, first_token_s=deadline_s, gap_s=deadline_s) for name in names)
    sampling = Sampling(max_tokens=5000)
    answer = Agent(name="agg", model="agg", reads=tuple(names), policy=policy, sampling=sampling)
    return Graph(agents=(*proposers, answer), answer="agg")


def time_of(graph: Graph, scripts: dict[str, Script]) -> Summary:
    backends: dict[str, Backend] = {}
    for name, script in scripts.items():
        scripted = ScriptedBackend(script, name)
        is_flapping = script.fault is not None and script.fault.every > 1
        backends[name] = Retrying(scripted, attempts=3, rng=random.Random(0)) if is_flapping else scripted
    one, events = play(graph, backends)
    assert isinstance(events[-1], RunEnded) and events[-1].reason == "stop"
    assert one.answer == "".join(scripts["agg"].words)
    return summarize(events)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("preset", [name for name, policy in PRESETS.items() if policy.quorum == "most"])
@pytest.mark.parametrize(("length", "own_length"), [(60, 300), (300, 60), (300, 300)])
def test_one_of_several_costs_patience_and_an_update_at_most(
    manner: str, preset: str, length: int, own_length: int
) -> None:
    policy = PRESETS[preset]
    for count in (3, 8):
        without = time_without(preset, count, length, own_length)
        scripts = fine(count, length, own_length)
        with_it = time_of(mixture_of(proposers(count), policy), {**scripts, "p0": MANNERS[manner](length)})
        assert with_it.first_token_s is not None and without.first_token_s is not None
        assert with_it.first_token_s <= 1.05 * without.first_token_s + policy.patience_s
        assert with_it.total_s <= without.total_s + policy.patience_s + CALL_S


def proposers(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


def fine(count: int, length: int, own_length: int) -> dict[str, Script]:
    """Proposers that differ by a few hundredths of a second, and an aggregator."""
    scripts = {
        name: Script(words=numbered_words(name, length), first_token_s=0.2 + 0.01 * i, token_s=0.02 + 0.0007 * i)
        for i, name in enumerate(proposers(count))
    }
    return {**scripts, "agg": Script(words=numbered_words("agg", own_length), first_token_s=CALL_S, token_s=0.02)}


@cache
def time_without(preset: str, count: int, length: int, own_length: int) -> Summary:
    """The run of all but the first proposer, with the quorum that they would make of themselves."""
    policy, scripts = PRESETS[preset], fine(count, length, own_length)
    del scripts["p0"]
    quorum = min(quorum_of(policy, count), count - 1)
    return time_of(mixture_of(proposers(count)[1:], replace(policy, quorum=quorum)), scripts)


@pytest.mark.parametrize("manner", ["silent", "late", "stalling after a word", "thinking for ever"])
@pytest.mark.parametrize(
    ("count", "preset"), [(2, "balanced"), (2, "cheap"), (2, "careful"), (4, "careful"), (3, "paper")]
)
def test_a_silent_one_whom_all_wait_for_leaves_by_the_rule(manner: str, count: int, preset: str) -> None:
    policy = PRESETS[preset]
    names = proposers(count)
    scripts = {name: Script(words=numbered_words(name, 300), first_token_s=CALL_S, token_s=0.02) for name in names}
    scripts["agg"] = Script(words=numbered_words("agg", 100), first_token_s=CALL_S, token_s=0.02)
    first_s = CALL_S + (policy.first_chunk - 1) * 0.02
    scripts[names[0]] = MANNERS[manner](300)
    found = time_of(mixture_of(names, policy), scripts)
    heard_s = CALL_S if manner == "stalling after a word" else 0
    leaves_s = heard_s + SILENCE_S + policy.patience_s + SILENCE_FACTOR * first_s
    assert found.first_token_s is not None
    assert found.first_token_s <= leaves_s + policy.patience_s + CALL_S + 1e-9
    assert found.total_s < 12


@pytest.mark.parametrize("preset", ["wait", "balanced", "careful"])
def test_a_dead_one_is_bounded_by_its_deadline(preset: str) -> None:
    names = ["p0", "p1"]
    scripts = {
        "p0": MANNERS["silent"](300),
        "p1": Script(words=numbered_words("p1", 300), first_token_s=CALL_S, token_s=0.02),
        "agg": Script(words=numbered_words("agg", 100), first_token_s=CALL_S, token_s=0.02),
    }
    found = time_of(mixture_of(names, PRESETS[preset], deadline_s=16), scripts)
    assert found.first_token_s is not None
    if preset == "wait":
        assert found.first_token_s == 16 + CALL_S
        assert found.degraded == ("p0 was dropped: p0 said nothing for 16 s",)
    else:
        assert found.total_s < 12


@pytest.mark.parametrize("edges", ["token", "word"])
def test_one_that_falls_silent_in_a_call_that_begins_late_is_not_waited_for(edges: Edges) -> None:
    """The middle waits for a source of its own while the other proposer writes its whole answer."""
    policy = replace(PRESETS["careful"], first_chunk=16, patience_s=0.5)
    agents = (
        Agent(name="source", model="source"),
        Agent(name="quick", model="quick"),
        Agent(name="middle", model="middle", reads=("source",), policy=PRESETS["wait"]),
        Agent(name="agg", model="agg", reads=("quick", "middle"), policy=policy, edges=edges),
    )
    found = time_of(
        Graph(agents=agents, answer="agg"),
        {
            "source": Script(words=numbered_words("s", 4), first_token_s=16, token_s=0.25),
            "quick": Script(words=numbered_words("q", 64), first_token_s=0.25, token_s=0.25),
            "middle": MANNERS["silent"](300),
            "agg": Script(words=numbered_words("agg", 16), first_token_s=0.25, token_s=0.25),
        },
    )
    first_s = 0.25 + 15 * 0.25 + (0.25 if edges == "word" else 0)
    # its call begins when the source has ended, at 16.75 s
    assert found.first_token_s == 16.75 + SILENCE_S + 0.5 + SILENCE_FACTOR * first_s + 0.25
