"""A calibration finds the numbers of a scripted endpoint, in virtual time."""

import pytest

from stairstream.backends.scripted import Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.backends.scripted.faults import Fault
from stairstream.core.errors import BackendError
from stairstream.plan.calibrating import LEAST_LONG_TOKENS, MOST_AT_ONCE, Call, amount_of, calibrate, tokens_per_word
from stairstream.plan.endpoints import EndpointCosts
from stairstream.sim.clock import run as run_in_virtual_time

WORDS = numbered_words("w", 100)


def measure(script: Script) -> tuple[EndpointCosts, int]:
    made = 0

    def advance(more: int) -> None:
        nonlocal made
        made += more

    return run_in_virtual_time(calibrate(ScriptedBackend(script), advance)), made


def test_it_finds_the_numbers_of_the_script() -> None:
    costs, made = measure(Script(words=WORDS, first_token_s=0.4, token_s=0.025, prefill_tokens_per_s=2000))
    assert made == amount_of(MOST_AT_ONCE).calls
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
    assert turns == amount_of(at_once).calls and most <= at_once
    assert set(costs.tokens_per_s) == {1, at_once}


def test_long_prompts_are_shorter_where_computing_them_takes_long() -> None:
    backend = ScriptedBackend(Script(words=WORDS, token_s=0.025, prefill_tokens_per_s=50))
    costs = run_in_virtual_time(calibrate(backend))
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
    assert made == amount_of(MOST_AT_ONCE).calls
