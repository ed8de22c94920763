"""Words released evenly, and the cost of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import pytest

from stairstream.backends.scripted import Fault, Script, numbered_words
from stairstream.backends.scripted.manner import Manner
from stairstream.core.events import Event, RunEnded, Wrote, as_written
from stairstream.core.metrics import first_token_s, gaps_s, longest_gap_s, summarize
from stairstream.core.policy import Policy
from stairstream.engine.pace import FixedPace, Pace
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, scripted

pytestmark = pytest.mark.manners

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0, lead=math.inf)


ODD = {
    name: Script(words=numbered_words(name, 32), first_token_s=0.5, token_s=token_s)
    for name, token_s in (("p1", 0.23), ("p2", 0.251), ("p3", 0.2713), ("agg", 0.1937))
}
"""No two of them ever write at the same instant."""


def play(
    pace: Pace,
    scripts: Mapping[str, Script] = MappingProxyType({}),
    *,
    deadline_s: float | None = None,
    policy: Policy = QUICK,
) -> tuple[Run, Sequence[Event]]:
    async def main() -> tuple[Run, list[Event]]:
        backends = scripted(0.5, 0.25, 32, **scripts)
        async with open_run(mixture(policy), ASK, backends, pace=pace, deadline_s=deadline_s) as one:
            return one, [event async for event in one.events()]

    return run(main())


@pytest.mark.one_by_one
def test_a_little_of_the_first_token_buys_an_answer_without_gaps() -> None:
    _, plain = play("raw")
    assert first_token_s(plain, "agg") == 1.75
    assert longest_gap_s(plain, "agg") == 0.5
    paced_run, paced = play(FixedPace(tokens_per_s=4, hold_s=1.5))
    assert first_token_s(paced, "agg") == 1.75 + 1.5
    assert set(gaps_s(paced, "agg")) == {0.25}
    words = [paced_run.text(event) for event in paced if isinstance(event, Wrote) and event.agent == "agg"]
    assert "".join(words) == paced_run.answer


@pytest.mark.one_by_one
def test_a_slower_pace_spreads_the_words_and_the_run_ends_after_the_last() -> None:
    _, paced = play(FixedPace(tokens_per_s=2))
    assert set(gaps_s(paced, "agg")) == {0.5}
    assert isinstance(paced[-1], RunEnded)
    assert paced[-1].at_s == 1.75 + 31 * 0.5


def test_proposers_are_not_paced_and_seen_share_is_unchanged() -> None:
    _, plain = play("raw", ODD)
    _, paced = play(FixedPace(tokens_per_s=2), ODD)
    assert gaps_s(paced, "p1") == gaps_s(plain, "p1")
    assert summarize(paced).seen_share == pytest.approx(summarize(plain).seen_share, rel=1e-12)


@pytest.mark.one_by_one
def test_events_of_a_paced_run_as_they_were_written() -> None:
    _, plain = play("raw", ODD)
    _, paced = play(FixedPace(tokens_per_s=2), ODD)
    assert as_written(paced)[1:-1] == plain[1:-1]


HELD_BACK = Policy(first_chunk=4, growth=1.5, quorum="all", patience_s=0, lead=0, slope=0.4)


@pytest.mark.one_by_one
def test_even_words_of_a_burst_are_spread_until_the_next_can_come() -> None:
    _, raw = play("raw", ODD, policy=HELD_BACK)
    one, even = play("even", ODD, policy=HELD_BACK)
    before, after = summarize(raw), summarize(even)
    assert after.first_token_s == before.first_token_s
    assert after.total_s <= 1.01 * before.total_s
    assert after.longest_gap_s < before.longest_gap_s
    assert after.longest_gap_written_s == before.longest_gap_s
    assert after.seen_share == before.seen_share
    words = [event for event in even if isinstance(event, Wrote) and event.agent == "agg"]
    assert "".join(one.text(event) for event in words) == one.answer
    assert all(event.at_s >= event.written_s for event in words if event.written_s is not None)


def test_a_delta_of_many_tokens_is_shown_word_by_word() -> None:
    batched = replace(ODD["agg"], manner=Manner(batch=8))
    one, even = play("even", {**ODD, "agg": batched}, policy=HELD_BACK)
    words = [event for event in even if isinstance(event, Wrote) and event.agent == "agg"]
    assert len(words) == 32 == sum(event.num_tokens for event in words)
    assert [event.start for event in words[1:]] == [event.end for event in words[:-1]]
    assert "".join(one.text(event) for event in words) == one.answer


@pytest.mark.parametrize("reason", ["failed", "deadline"])
def test_what_is_queued_is_shown_at_once_when_the_answer_breaks_off(reason: str) -> None:
    if reason == "failed":
        fault = Fault(kind="cut", after_tokens=3)
        one, even = play("even", {**ODD, "agg": replace(ODD["agg"], fault=fault)}, policy=HELD_BACK)
    else:
        one, even = play("even", ODD, policy=HELD_BACK, deadline_s=4.0)
    end = even[-1]
    assert isinstance(end, RunEnded)
    assert end.reason == reason
    words = [event for event in even if isinstance(event, Wrote) and event.agent == "agg"]
    assert "".join(one.text(event) for event in words) == one.answer != ""


def test_deadline_lets_everything_go_at_once() -> None:
    one, paced = play(FixedPace(tokens_per_s=1), deadline_s=4)
    assert isinstance(paced[-1], RunEnded)
    assert (paced[-1].reason, paced[-1].at_s) == ("deadline", 4)
    released = [event for event in paced if isinstance(event, Wrote) and event.agent == "agg"]
    assert released[-1].end == len(one.answer)
