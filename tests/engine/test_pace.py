"""Words released evenly, and the cost of it."""

import math
from collections.abc import Sequence

import pytest

from stairstream.core.events import Event, RunEnded, Wrote
from stairstream.core.metrics import first_token_s, gaps_s, longest_gap_s, summarize
from stairstream.core.policy import Policy
from stairstream.engine.pace import Pace
from stairstream.engine.run import Run, open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, scripted

pytestmark = pytest.mark.manners

QUICK = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0, lead=math.inf)


def play(pace: Pace | None, deadline_s: float | None = None) -> tuple[Run, Sequence[Event]]:
    async def main() -> tuple[Run, list[Event]]:
        backends = scripted(length=32)
        async with open_run(mixture(QUICK), ASK, backends, pace=pace, deadline_s=deadline_s) as one:
            return one, [event async for event in one.events()]

    return run(main())


@pytest.mark.one_by_one
def test_a_little_of_the_first_token_buys_an_answer_without_gaps() -> None:
    _, plain = play(None)
    assert first_token_s(plain, "agg") == 1.75
    assert longest_gap_s(plain, "agg") == 0.5
    paced_run, paced = play(Pace(tokens_per_s=4, hold_s=1.5))
    assert first_token_s(paced, "agg") == 1.75 + 1.5
    assert set(gaps_s(paced, "agg")) == {0.25}
    words = [paced_run.text(event) for event in paced if isinstance(event, Wrote) and event.agent == "agg"]
    assert "".join(words) == paced_run.answer


@pytest.mark.one_by_one
def test_a_slower_pace_spreads_the_words_and_the_run_ends_after_the_last() -> None:
    _, paced = play(Pace(tokens_per_s=2))
    assert set(gaps_s(paced, "agg")) == {0.5}
    assert isinstance(paced[-1], RunEnded)
    assert paced[-1].at_s == 1.75 + 31 * 0.5


def test_proposers_are_not_paced_and_seen_share_is_unchanged() -> None:
    _, plain = play(None)
    _, paced = play(Pace(tokens_per_s=2))
    assert gaps_s(paced, "p1") == gaps_s(plain, "p1")
    assert summarize(paced).seen_share == pytest.approx(summarize(plain).seen_share, abs=0.01)


def test_deadline_lets_everything_go_at_once() -> None:
    one, paced = play(Pace(tokens_per_s=1), deadline_s=4)
    assert isinstance(paced[-1], RunEnded)
    assert (paced[-1].reason, paced[-1].at_s) == ("deadline", 4)
    released = [event for event in paced if isinstance(event, Wrote) and event.agent == "agg"]
    assert released[-1].end == len(one.answer)
