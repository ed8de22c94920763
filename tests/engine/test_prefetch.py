"""Sessions that can prefetch have an update's prompt computed while the step under way still speaks."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Call, Script, ScriptedBackend, numbered_words
from stairstream.core.events import Event, StepEnded, StepStarted
from stairstream.core.graph import Agent
from stairstream.core.metrics import summarize
from stairstream.core.policy import Policy
from stairstream.core.session import Chunk
from stairstream.sim import clock
from tests.engine.staircase import ASK, mixture, play, scripted

pytestmark = pytest.mark.manners

CHUNKS = Policy(first_chunk=16, growth=2, quorum="all", patience_s=0)
AGG = Script(
    words=numbered_words("agg", 160), first_token_s=0.25, token_s=0.25, prefill_tokens_per_s=32, caches_prefix=True
)


def models(agg: Script, length: int = 100) -> Mapping[str, ScriptedBackend]:
    return scripted(first_token_s=0.5, token_s=0.25, length=length, agg=agg)


def steps(events: Sequence[Event]) -> list[StepStarted]:
    return [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"]


def test_the_answer_is_the_same_and_its_gaps_are_shorter() -> None:
    plain, events = play(mixture(CHUNKS), models(AGG))
    fast, prefetched = play(mixture(CHUNKS), models(replace(AGG, prefetches=True)))
    assert fast.answer == plain.answer == "".join(AGG.words)
    before, after = summarize(events), summarize(prefetched)
    # an update computes all three references anew, at 32 tokens a second; prefetched, what was written meanwhile
    assert before.longest_gap_s > 8
    assert after.longest_gap_s < 2
    assert after.total_s < before.total_s - 10
    assert after.first_token_s == before.first_token_s


def test_an_update_reads_exactly_what_was_prefetched() -> None:
    backends = models(replace(AGG, prefetches=True))
    _, events = play(mixture(CHUNKS), backends)
    calls = [call for call in backends["agg"].calls if call.agent == "agg"]
    warm = [call for call in calls if call.limit == 1]
    assert warm and len(calls) == len(warm) + len(steps(events))
    for call in warm:
        following = calls[calls.index(call) + 1]
        *head, own = call.prompt.messages
        *same_head, longer = following.prompt.messages
        assert head == same_head
        assert longer.content.startswith(own.content) and len(longer.content) > len(own.content)


def test_what_was_written_meanwhile_is_read_at_the_next_update() -> None:
    _, events = play(mixture(CHUNKS), models(replace(AGG, prefetches=True)))
    ends = {reading.agent: reading for reading in steps(events)[-1].readings}
    assert all(reading.is_final for reading in ends.values())
    for earlier, later in zip(steps(events), steps(events)[1:], strict=False):
        for one, other in zip(earlier.readings, later.readings, strict=True):
            assert other.start == one.end


def test_its_cost_is_in_the_usage() -> None:
    _, events = play(mixture(CHUNKS), models(AGG))
    _, prefetched = play(mixture(CHUNKS), models(replace(AGG, prefetches=True)))

    def prompt_tokens(events: Sequence[Event]) -> int:
        return sum(one.usage.prompt_tokens for one in events if isinstance(one, StepEnded) and one.agent == "agg")

    def early_tokens(events: Sequence[Event]) -> int:
        return sum(one.usage.early_tokens for one in events if isinstance(one, StepEnded) and one.agent == "agg")

    assert early_tokens(events) == 0 < early_tokens(prefetched)
    assert prompt_tokens(prefetched) > prompt_tokens(events)


@pytest.mark.parametrize("num_words", [20, 40])
def test_a_step_that_ends_before_its_prefetch_loses_nothing(num_words: int) -> None:
    """The answer is over before the second update can have been prefetched."""
    agg = replace(AGG, words=numbered_words("agg", num_words), prefetches=True, prefill_tokens_per_s=4)
    run, _ = play(mixture(CHUNKS), models(agg))
    assert run.answer == "".join(agg.words)


def test_an_update_before_the_first_word_is_not_prefetched() -> None:
    """A call that has said nothing has nothing to say meanwhile."""
    agg = replace(AGG, prefetches=True, first_token_s=60)
    backends = models(agg)
    run, _ = play(mixture(CHUNKS), backends)
    assert run.answer == "".join(agg.words)
    assert all(call.limit > 1 for call in backends["agg"].calls)


def test_endpoints_that_do_not_cache_prefixes_are_not_asked_to_prefetch() -> None:
    assert not any(call.limit == 1 for call in _calls_of(AGG))
    assert any(call.limit == 1 for call in _calls_of(replace(AGG, prefetches=True)))


def wrapped(agg: Script, wrap: Callable[[Backend], Backend]) -> tuple[list[int], Sequence[Event]]:
    """The limits of the calls of an aggregator in a wrapper, and the events."""
    backends = models(agg)
    run, events = play(mixture(CHUNKS), {**backends, "agg": wrap(backends["agg"])})
    assert run.answer == "".join(agg.words)
    return [call.limit for call in backends["agg"].calls], events[1:]  # the first has the run's id


@pytest.mark.parametrize(
    "wrap",
    [
        partial(Retrying, attempts=3, rng=random.Random(0)),
        partial(Hedged, hedge_after_s=60),
        partial(Limited, max_concurrency=2),
        partial(Limited, requests_per_minute=120),
    ],
)
def test_prefetching_passes_through_every_wrapper(wrap: Callable[[Backend], Backend]) -> None:
    agg = replace(AGG, prefetches=True)
    limits, events = wrapped(agg, wrap)
    plain, plain_events = wrapped(agg, lambda inner: inner)
    assert limits.count(1) == plain.count(1) > 0 and len(limits) == len(plain)
    early, plain_early = (
        sum(event.usage.early_tokens for event in some if isinstance(event, StepEnded))
        for some in (events, plain_events)
    )
    assert early == pytest.approx(plain_early, abs=5)  # a race takes a turn of the loop more


@pytest.mark.parametrize(
    "wrap",
    [
        partial(Limited, max_concurrency=1),  # the step under way has it
        partial(Limited, requests_per_minute=118),  # the update itself would wait for its turn
    ],
)
def test_a_prefetch_for_which_the_limits_have_no_room_is_not_waited_for(wrap: Callable[[Backend], Backend]) -> None:
    assert wrapped(replace(AGG, prefetches=True), wrap) == wrapped(AGG, wrap)


def test_a_prefetch_takes_its_permit_and_its_turn() -> None:
    async def main() -> None:
        agg = replace(AGG, prefetches=True, prefill_tokens_per_s=math.inf)
        limited = Limited(ScriptedBackend(agg, "m"), max_concurrency=2, requests_per_minute=120)
        session = await limited.open(Agent(name="a", model="m", reads=("p",)), ASK)
        first = asyncio.create_task(session.prefetch([Chunk(agent="p", text="x", is_final=False)]))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        async with limited.hold(0):
            assert loop.time() == 0  # one turn was left
            assert not await session.prefetch([])  # both permits are taken
        assert await first
        async with limited.hold(0), limited.hold(0):
            assert loop.time() == 1  # the third turn, and the fourth
        await session.aclose()

    clock.run(main())


def test_nothing_is_prefetched_while_two_tries_race() -> None:
    async def main() -> None:
        agg = replace(AGG, prefetches=True, first_token_s=4)
        inner = ScriptedBackend(agg, "m")
        session = await Hedged(inner, hedge_after_s=1).open(Agent(name="a", model="m", reads=("p",)), ASK)
        items = session.write(100)
        await anext(items)
        rest = asyncio.ensure_future(anext(items))
        await asyncio.sleep(2)
        assert len(inner.calls) == 2 and not await session.prefetch([])
        await rest
        assert await session.prefetch([])
        await items.aclose()
        await session.aclose()

    clock.run(main())


def _calls_of(agg: Script) -> list[Call]:
    backends = models(agg)
    play(mixture(CHUNKS), backends)
    return list(backends["agg"].calls)
