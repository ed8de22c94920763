"""Calls that came to nothing are in the usage, however their step ends, and count for a run's cost as they happen."""

import random
from collections.abc import Mapping

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import ONE_BY_ONE, Fault, FaultKind, Manner, Script, ScriptedBackend
from stairstream.backends.scripted.manner import Reported
from stairstream.core.costs import Price
from stairstream.core.graph import Agent, Graph
from stairstream.core.metrics import Summary, summarize
from stairstream.core.session import Usage
from stairstream.engine.run import open_run
from stairstream.sim import clock
from tests.engine.staircase import ASK


def play(
    backends: Mapping[str, Backend],
    max_cost: float | None = None,
    deadline_s: float | None = None,
    first_token_s: float | None = None,
) -> Summary:
    """One agent, whose other models are its fallbacks; each prompt token costs 1."""
    model, *fallbacks = backends
    agent = Agent(name="a", model=model, fallbacks=tuple(fallbacks), first_token_s=first_token_s)
    graph = Graph(agents=(agent,), answer="a")
    prices = {name: Price(prompt=1e6, completion=0) for name in backends}

    async def main() -> Summary:
        async with open_run(graph, ASK, backends, prices=prices, max_cost=max_cost, deadline_s=deadline_s) as run:
            return summarize([event async for event in run.events()])

    return clock.run(main())


def failing(kind: FaultKind, calls: int | None = None, manner: Manner = ONE_BY_ONE) -> ScriptedBackend:
    fault = Fault(kind=kind, calls=calls)
    return ScriptedBackend(Script(words=("hi",), first_token_s=0.5, fault=fault, manner=manner), "m")


def retrying(inner: Backend, attempts: int = 4) -> Retrying:
    return Retrying(inner, attempts=attempts, rng=random.Random(0))


def sent(*backends: ScriptedBackend) -> int:
    return sum(call.prompt_tokens for backend in backends for call in backend.calls)


def usage_of(summary: Summary) -> Usage:
    (agent,) = summary.agents
    return agent.usage


@pytest.mark.parametrize("kind", ["status_500", "empty", "cut"])
def test_tries_that_fail_for_good_are_in_the_usage(kind: FaultKind) -> None:
    inner = failing(kind)
    summary = play({"m": retrying(inner)})
    assert len(inner.calls) == 4 and summary.reason == "failed"
    assert usage_of(summary).prompt_tokens == sent(inner)


def test_a_call_that_is_refused_costs_nothing() -> None:
    inner = failing("status_429")
    summary = play({"m": retrying(inner)})
    assert len(inner.calls) == 4 and summary.reason == "failed"
    assert usage_of(summary).prompt_tokens == 0


def test_tries_before_a_fallback_are_in_the_usage() -> None:
    inner, other = failing("status_500"), ScriptedBackend(Script(words=("hi",)), "f")
    summary = play({"m": retrying(inner), "f": other})
    assert summary.reason == "stop"
    assert usage_of(summary).prompt_tokens == sent(inner, other)


@pytest.mark.parametrize("usage", ["exact", "none"])
def test_tries_before_one_that_works_are_in_the_usage(usage: Reported) -> None:
    inner = failing("status_500", calls=2, manner=Manner(usage=usage))
    summary = play({"m": retrying(inner)})
    assert summary.reason == "stop"
    assert usage_of(summary).prompt_tokens == sent(inner)


def test_both_calls_of_a_hedge_that_fail_are_in_the_usage() -> None:
    inner = ScriptedBackend(Script(words=("hi",), first_token_s=4, fault=Fault(kind="cut")), "m")
    summary = play({"m": Hedged(inner, hedge_after_s=1)})
    assert len(inner.calls) == 2 and summary.reason == "failed"
    assert usage_of(summary).prompt_tokens == sent(inner)


@pytest.mark.parametrize(("deadline_s", "first_token_s"), [(3, None), (None, 3)])
def test_both_calls_of_a_hedge_that_is_cut_short_are_in_the_usage(
    deadline_s: float | None, first_token_s: float | None
) -> None:
    inner = ScriptedBackend(Script(words=("hi",), first_token_s=4), "m")
    summary = play({"m": Hedged(inner, hedge_after_s=1)}, deadline_s=deadline_s, first_token_s=first_token_s)
    assert len(inner.calls) == 2 and summary.reason == "failed"
    assert usage_of(summary).prompt_tokens == sent(inner)


class RefusesTheSecond(ScriptedBackend):
    """Answers 429 to every call but the first."""

    @property
    def script(self) -> Script:
        fault = Fault(kind="status_429") if len(self.calls) > 1 else None
        return Script(words=("hi",), first_token_s=4, fault=fault)

    @script.setter
    def script(self, value: Script) -> None:
        pass


def test_a_second_call_that_is_refused_costs_nothing() -> None:
    inner = RefusesTheSecond(Script(words=()), "m")
    summary = play({"m": Hedged(inner, hedge_after_s=1)})
    assert len(inner.calls) == 2 and summary.reason == "stop"
    assert usage_of(summary).prompt_tokens == inner.calls[0].prompt_tokens


def test_a_cost_limit_sees_tries_as_they_fail() -> None:
    inner = failing("status_500")
    play({"m": retrying(inner, attempts=50)}, max_cost=2.5)
    (prompt_tokens,) = {call.prompt_tokens for call in inner.calls}
    assert prompt_tokens == 1
    assert len(inner.calls) == 3


def test_a_run_that_is_ended_between_two_tries_counts_each_once() -> None:
    inner = failing("status_500")
    summary = play({"m": retrying(inner, attempts=50)}, max_cost=3)
    assert usage_of(summary).prompt_tokens == sent(inner) == 3
