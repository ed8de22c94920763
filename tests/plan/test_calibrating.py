"""A calibration finds the numbers of a scripted endpoint, in virtual time."""

import asyncio
import random
from dataclasses import replace

import pytest

from stairstream.backends.scripted import Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.backends.scripted.faults import Fault
from stairstream.core.errors import BackendError, ServerFailed
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.plan.calibrating import (
    LEAST_LONG_TOKENS,
    LEAST_ROUNDS,
    MOST_AT_ONCE,
    Calibration,
    amount_of,
    calibrate,
    loads_of,
    tokens_per_word,
)
from stairstream.plan.calling import Call
from stairstream.plan.endpoints import EndpointCosts
from stairstream.sim.clock import run as run_in_virtual_time

WORDS = numbered_words("w", 100)


def measure(script: Script) -> tuple[EndpointCosts, int]:
    made = 0

    def advance(more: int) -> None:
        nonlocal made
        made += more

    found = run_in_virtual_time(calibrate(ScriptedBackend(script), advance))
    assert not found.left_out
    return found.costs, made


def test_it_finds_the_numbers_of_the_script() -> None:
    costs, made = measure(Script(words=WORDS, first_token_s=0.4, token_s=0.025, prefill_tokens_per_s=2000))
    # nothing varies, so that all is sure as soon as it can be
    assert made == 2 + LEAST_ROUNDS * (3 + MOST_AT_ONCE + 2)
    assert costs.call_s == pytest.approx(0.4)
    assert costs.prefill_token_s == pytest.approx(1 / 2000)
    assert costs.tokens_per_s == {1: pytest.approx(40), 4: pytest.approx(40)}
    assert costs.failures == 0
    assert costs.jitter == pytest.approx(0, abs=1e-9)


def test_an_endpoint_that_always_fails_or_never_speaks_is_an_error() -> None:
    with pytest.raises(BackendError, match="calls failed"):
        measure(Script(words=WORDS, fault=Fault(kind="status_500")))
    with pytest.raises(BackendError, match="calls failed"):
        measure(Script(words=WORDS, first_token_s=1e6))
    with pytest.raises(BackendError, match="one piece"):
        measure(Script(words=WORDS[:1], first_token_s=0.1))


def test_an_endpoint_that_fails_under_load_is_one_error() -> None:
    """Not a group of those of all calls at once."""

    class Weak(ScriptedBackend):
        num_opened = 0

        async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
            self.num_opened += 1
            if self.num_opened > 5:
                raise ServerFailed("too much")
            return await super().open(agent, conversation, written)

    with pytest.raises(BackendError, match="4 of its calls failed; the last one: too much"):
        run_in_virtual_time(calibrate(Weak(Script(words=WORDS, token_s=0.1))))


def test_a_long_prompt_is_as_long_as_the_endpoint_counts() -> None:
    short = Call(start_s=0.0, at_s=[0.1], num_tokens=[1], prompt_tokens=70, cached_tokens=0)
    assert tokens_per_word([None, short]) == 7
    assert tokens_per_word([None]) == 2


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_no_more_calls_at_once_than_the_endpoint_takes(at_once: int) -> None:
    backend = ScriptedBackend(Script(words=WORDS, first_token_s=0.4, token_s=0.025))
    most, turns = 0, 0

    async def turn() -> None:
        nonlocal most, turns
        turns += 1
        most = max(most, backend.num_sessions + 1)

    costs = run_in_virtual_time(calibrate(backend, at_once=at_once, turn=turn))
    assert 2 + LEAST_ROUNDS * 3 <= turns <= amount_of(loads_of(at_once, is_engine=False)).calls and most <= at_once
    assert set(costs.costs.tokens_per_s) == {1, at_once}


def test_long_prompts_are_shorter_where_computing_them_takes_long() -> None:
    backend = ScriptedBackend(Script(words=WORDS, token_s=0.025, prefill_tokens_per_s=50))
    costs = run_in_virtual_time(calibrate(backend)).costs
    assert max(call.prompt_tokens for call in backend.calls) < LEAST_LONG_TOKENS * 1.1
    assert costs.prefill_token_s == pytest.approx(1 / 50)


def test_no_prompt_is_computed_before_its_time_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine's session that is told to warm computes its whole prompt."""

    async def warm(session: ScriptedSession) -> None:
        raise AssertionError("the time of the prompt would be lost")

    monkeypatch.setattr(ScriptedSession, "warm", warm)
    assert measure(Script(words=WORDS, token_s=0.025, prefill_tokens_per_s=2000))[0].prefill_token_s > 0


class _Slots:
    serial, count = 0, 4


def test_an_engines_cached_tokens_are_measured_in_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slot keeps the context of one session, so that another one finds nothing there."""
    script = Script(words=WORDS, token_s=0.025, prefill_tokens_per_s=1000, caches_prefix=True)
    assert measure(script)[0].cached_token_s == pytest.approx(1 / 1000)
    monkeypatch.setattr(ScriptedBackend, "room", _Slots())
    costs, made = measure(script)
    assert costs.caches and costs.cached_token_s == pytest.approx(0, abs=1e-4)
    assert made == 2 + LEAST_ROUNDS * (3 + 2 + 3 + 4 + 2)
    assert set(costs.tokens_per_s) == {1, 2, 3, 4}


class _Uneven(ScriptedBackend):
    """Its calls take now this, now that long until their first token."""

    rng = random.Random(0)

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self.script = replace(self.script, first_token_s=self.rng.uniform(0.5, 1.5))
        return await super().open(agent, conversation, written)


def test_what_varies_is_measured_again() -> None:
    script = Script(words=WORDS, token_s=0.1)
    even, uneven = ScriptedBackend(script), _Uneven(script)
    assert not run_in_virtual_time(calibrate(even)).left_out
    found = run_in_virtual_time(calibrate(uneven))
    assert "the time of a short call not within 10%" in found.left_out
    assert len(even.calls) < len(uneven.calls) <= amount_of(loads_of(MOST_AT_ONCE, is_engine=False)).calls


def test_what_the_time_was_too_short_for_is_said() -> None:
    script = Script(words=WORDS, first_token_s=1.0, token_s=0.1)  # a call takes 5.8 s

    async def act() -> tuple[Calibration, float]:
        begin_s = asyncio.get_running_loop().time()
        found = await calibrate(ScriptedBackend(script), within_s=30)
        return found, asyncio.get_running_loop().time() - begin_s

    found, took_s = run_in_virtual_time(act())
    assert took_s == pytest.approx(30 + 5.7)
    assert found.costs.tokens_per_s == {1: pytest.approx(10), 4: pytest.approx(10)}
    assert found.left_out[0] == "its 30 s were up"
    assert "the time of prompts not within 10%" in found.left_out
    with pytest.raises(BackendError, match="not answered a short prompt within 2 s"):
        run_in_virtual_time(calibrate(ScriptedBackend(script), within_s=2))
