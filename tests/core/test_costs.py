"""What a run costs: prices of cached tokens, and of each model where one took over."""

import pytest

from stairstream.core.costs import Meter, Price, cost_of, cost_of_agent, usage_by_model
from stairstream.core.events import Event, Noted, StepEnded, StepStarted, Wrote
from stairstream.core.graph import Agent
from stairstream.core.session import Note, Usage


def ended(prompt: int, completion: int, agent: str = "a") -> StepEnded:
    used = Usage(prompt_tokens=prompt, completion_tokens=completion)
    return StepEnded(at_s=1, agent=agent, step=0, reason="stop", usage=used)


EVENTS: tuple[Event, ...] = (
    ended(100, 10),
    ended(7, 7, agent="other"),
    ended(100, 10),
    Noted(at_s=2, agent="a", note=Note(kind="failover", text="m failed; n goes on")),
    ended(150, 30),
)
AGENT = Agent(name="a", model="m", fallbacks=("n",))


def test_cached_and_written_tokens_have_prices_of_their_own() -> None:
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=100)
    assert cost_of(usage, Price(prompt=10, completion=100)) == pytest.approx(0.02)
    assert cost_of(usage, Price(prompt=10, completion=100, cached=1)) == pytest.approx(0.0164)
    assert cost_of(usage, Price(prompt=10, completion=100, cached=1, cache_write=12.5)) == pytest.approx(0.0179)


def test_a_fallbacks_tokens_are_its_own() -> None:
    used = usage_by_model(EVENTS, AGENT)
    assert {model: (one.prompt_tokens, one.completion_tokens) for model, one in used.items()} == {
        "m": (200, 20),
        "n": (150, 30),
    }
    prices = {"m": Price(prompt=1, completion=2), "n": Price(prompt=10, completion=20)}
    assert cost_of_agent(EVENTS, AGENT, prices) == pytest.approx((240 + 2100) / 1e6)


def test_cost_is_unknown_where_a_model_that_was_used_has_no_price() -> None:
    assert cost_of_agent(EVENTS, AGENT, {"m": Price(prompt=1, completion=2)}) is None
    assert cost_of_agent((), AGENT, {}) is None
    assert cost_of_agent(EVENTS[:3], AGENT, {"m": Price(prompt=1, completion=2)}) is not None


def test_price_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="cached must be a number of at least 0, not -1"):
        Price(prompt=1, completion=1, cached=-1)


def test_words_that_were_held_back_until_the_step_had_ended_cost_once() -> None:
    meter = Meter([AGENT], {"m": Price(prompt=0, completion=1e6)})
    word = Wrote(at_s=1, agent="a", start=0, end=1, num_tokens=1, is_estimate=False)
    meter.take(StepStarted(at_s=0, agent="a", step=0, limit=8))
    meter.take(word)
    assert meter.cost == 1
    meter.take(ended(0, 2))
    meter.take(word)
    assert meter.cost == 2
