"""Thoughts without end are a failure of the model that has them, whatever its part in the graph."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.costs import Price
from stairstream.core.events import AgentEnded, Event, RunEnded, StepEnded, Wrote
from stairstream.core.graph import THINKING_TOKENS, Agent, Graph
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, play, scripted

WAIT = PRESETS["wait"]
QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)
WORDS = numbered_words("x", 16)
FIRST_S, TOKEN_S = 0.5, 1 / 64
ENDLESS = Script(words=WORDS, thoughts=("hm ",) * 10**6, first_token_s=FIRST_S, token_s=TOKEN_S)
MOST = 64
BOUND_S = FIRST_S + MOST * TOKEN_S
"""When a call has had one thought too many."""
ERROR = f": its thoughts took all {MOST} tokens; raise thinking_tokens"


def end_of(events: Sequence[Event], agent: str) -> AgentEnded:
    return next(event for event in events if isinstance(event, AgentEnded) and event.agent == agent)


def end_of_run(events: Sequence[Event]) -> RunEnded:
    assert isinstance(events[-1], RunEnded)
    return events[-1]


def bounded(policy: Policy, fallbacks: tuple[str, ...] = ()) -> Graph:
    graph = mixture(policy)
    agents = tuple(replace(one, thinking_tokens=MOST, fallbacks=fallbacks if one.reads else ()) for one in graph.agents)
    return replace(graph, agents=agents)


def models(**others: Script) -> dict[str, ScriptedBackend]:
    spare = Script(words=WORDS, first_token_s=FIRST_S, token_s=TOKEN_S)
    return {**scripted(), **{name: ScriptedBackend(one, name) for name, one in {"spare": spare, **others}.items()}}


def test_of_the_only_model() -> None:
    one, events = play(Graph(agents=(Agent(name="a", model="a"),), answer="a"), {"a": ScriptedBackend(ENDLESS, "a")})
    end = end_of_run(events)
    assert (end.at_s, end.reason) == (FIRST_S + THINKING_TOKENS * TOKEN_S, "failed")
    assert end.error == f"a: its thoughts took all {THINKING_TOKENS} tokens; raise thinking_tokens"
    assert one.thinking("a").num_tokens == THINKING_TOKENS + 1
    assert one.answer == ""


def test_of_a_proposer() -> None:
    one, events = play(bounded(WAIT), models(p2=ENDLESS))
    end = end_of(events, "p2")
    assert (end.at_s, end.reason, end.error) == (BOUND_S, "dropped", f"p2{ERROR}")
    assert end_of_run(events).degraded == (f"p2 was dropped: p2{ERROR}",)
    assert one.answer.endswith("agg16")


@pytest.mark.parametrize("policy", [WAIT, QUICK])
def test_of_the_aggregator_without_and_with_a_fallback(policy: Policy) -> None:
    begins_s = 0.5 + (15 if policy is WAIT else 3) * 0.25
    _, events = play(bounded(policy), models(agg=ENDLESS))
    assert (end_of_run(events).at_s, end_of_run(events).error) == (begins_s + BOUND_S, f"agg{ERROR}")
    backends = models(agg=ENDLESS)
    one, events = play(bounded(policy, ("spare",)), backends)
    assert backends["spare"].calls[0].at_s == begins_s + BOUND_S
    assert end_of_run(events).reason == "stop"
    assert f"agg: agg{ERROR}; spare continues" in end_of_run(events).degraded
    assert one.answer == "".join(WORDS)


def test_of_a_fallback() -> None:
    broken = replace(ENDLESS, thoughts=(), fault=Fault(kind="cut", after_tokens=5))
    one, events = play(bounded(WAIT, ("endless", "spare")), models(agg=broken, endless=ENDLESS))
    assert [line.rpartition("; ")[2] for line in end_of_run(events).degraded] == [
        "endless continues",
        "spare continues",
    ]
    assert one.answer == "".join(WORDS)


class ThinksLater(ScriptedBackend):
    """Its first call has no thoughts, the others have nothing else."""

    @property
    def script(self) -> Script:
        return ENDLESS if len(self.calls) > 1 else replace(ENDLESS, thoughts=(), token_s=0.25)

    @script.setter
    def script(self, value: Script) -> None:
        pass


def test_what_had_been_said_stays() -> None:
    one, events = play(bounded(QUICK), {**models(), "agg": ThinksLater(ENDLESS, "agg")})
    assert (end_of_run(events).reason, end_of_run(events).error) == ("failed", f"agg{ERROR}")
    said = sum(event.num_tokens for event in events if isinstance(event, Wrote) and event.agent == "agg")
    assert one.answer == "".join(WORDS[:said]) != ""
    one, events = play(bounded(QUICK, ("spare",)), {**models(), "agg": ThinksLater(ENDLESS, "agg")})
    assert (end_of_run(events).reason, one.answer) == ("stop", "".join(WORDS))


@pytest.mark.parametrize("more", [0, 1])
def test_as_many_as_the_bound_are_no_failure(more: int) -> None:
    agent = Agent(name="a", model="a", thinking_tokens=MOST)
    script = replace(ENDLESS, thoughts=("hm ",) * (MOST + more))
    _, events = play(Graph(agents=(agent,), answer="a"), {"a": ScriptedBackend(script, "a")})
    assert end_of_run(events).reason == ("failed" if more else "stop")


def test_they_are_counted_and_cost_what_they_cost() -> None:
    async def main() -> Sequence[Event]:
        graph = Graph(agents=(Agent(name="a", model="a", thinking_tokens=MOST, fallbacks=("spare",)),), answer="a")
        prices = {"a": Price(prompt=0, completion=1e6), "spare": Price(prompt=0, completion=1e6)}
        backends = {
            "a": ScriptedBackend(ENDLESS, "a"),
            "spare": ScriptedBackend(replace(ENDLESS, thoughts=()), "spare"),
        }
        async with open_run(graph, ASK, backends, prices=prices, max_cost=MOST + 5.5) as one:
            await one.wait_ended()
        return one.past

    events = run(main())
    step = next(event for event in events if isinstance(event, StepEnded))
    assert (step.reason, step.usage.completion_tokens, step.usage.is_estimate) == ("failed", MOST + 1, True)
    assert end_of_run(events).reason == "budget"
