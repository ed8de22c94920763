"""When the answer starts, when it updates, and when it ends: all times are exact."""

import asyncio
import math
from dataclasses import replace

import pytest

from stairstream.backends.scripted import ONE_BY_ONE, Manner, Script, numbered_words
from stairstream.core.events import AgentEnded, RunEnded, StepEnded, StepStarted, Wrote
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture, play, scripted

pytestmark = pytest.mark.manners

ALL = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0, lead=math.inf)


@pytest.mark.one_by_one
def test_aggregator_starts_after_first_chunk() -> None:
    run, events = play(mixture(ALL), scripted())
    # token i of a proposer at 0.5 + 0.25 i: the fourth at 1.25, then half a second for the aggregator's own first token
    steps = [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    assert steps[0].at_s == 1.25
    assert [reading.end for reading in steps[0].readings] == [len("p11 p12 p13 p14")] * 3
    assert summarize(events).first_token_s == 1.75
    assert run.answer == " ".join(f"agg{i}" for i in range(1, 17))


@pytest.mark.one_by_one
def test_updates_follow_the_marks_and_the_last_one_completes() -> None:
    _, events = play(mixture(ALL), scripted(token_s=0.25, length=16))
    # marks 4 and 12; proposers end with their 16th token, before the third mark of 28
    starts = [event.at_s for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    assert starts == [1.25, 3.25, 4.25]
    finals = [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"][-1]
    assert all(reading.is_final for reading in finals.readings)


@pytest.mark.one_by_one
def test_wait_is_ordinary_mixture_of_agents() -> None:
    _, events = play(mixture(PRESETS["wait"]), scripted())
    summary = summarize(events)
    assert summary.first_token_s == 0.5 + 15 * 0.25 + 0.5
    assert (summary.updates, summary.seen_share, summary.tokens_again) == (0, 1.0, 0)


@pytest.mark.one_by_one
@pytest.mark.parametrize(
    ("numbers", "first_token_s", "total_s", "calls", "longest_gap_s"),
    [
        ((8, 2, math.inf), 0.54, 7.44, 6, 0.22),
        ((8, 2, 0), 0.54, 9.12, 6, 1.30),
        ((8, 1, math.inf), 0.54, 9.64, 19, 0.26),
        ((16, 2, math.inf), 0.70, 7.42, 5, 0.22),
        ((32, 4, math.inf), 1.02, 7.36, 3, 0.20),
        ((64, 2, -32), 1.66, 9.76, 3, 1.94),
        ((math.inf, 1, math.inf), 6.38, 12.36, 1, 0.02),
    ],
)
def test_worked_example_of_the_design(
    numbers: tuple[float, float, float], first_token_s: float, total_s: float, calls: int, longest_gap_s: float
) -> None:
    first_chunk, growth, lead = numbers
    policy = Policy(first_chunk=first_chunk, growth=growth, quorum="all", patience_s=0, lead=lead)
    _, events = play(mixture(policy), scripted(first_token_s=0.2, token_s=0.02, length=300))
    summary = summarize(events)
    assert summary.first_token_s == pytest.approx(first_token_s)
    assert summary.total_s == pytest.approx(total_s)
    assert summary.updates + 1 == calls
    assert summary.longest_gap_s == pytest.approx(longest_gap_s)


@pytest.mark.one_by_one
def test_quorum_starts_without_the_slow_one_after_patience() -> None:
    slow = Script(words=numbered_words("p3", 16), first_token_s=64)
    _, events = play(mixture(replace(ALL, quorum=2, patience_s=0.5)), scripted(p3=slow))
    assert summarize(events).first_token_s == 1.25 + 0.5 + 0.5


@pytest.mark.one_by_one
def test_patience_ends_early_when_the_others_come() -> None:
    late = Script(words=numbered_words("p3", 16), first_token_s=0.75, token_s=0.25)
    _, events = play(mixture(replace(ALL, quorum=2, patience_s=8)), scripted(p3=late))
    assert summarize(events).first_token_s == 1.5 + 0.5


def test_late_proposer_joins_at_a_later_update() -> None:
    late = Script(words=numbered_words("p3", 16), first_token_s=4, token_s=0.25)
    run, events = play(mixture(replace(ALL, quorum=2)), scripted(length=40, p3=late))
    last = [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"][-1]
    assert last.readings[2].end == len(run.log("p3").text())
    assert last.readings[2].is_final


@pytest.mark.one_by_one
def test_lead_zero_writes_as_much_as_it_has_read() -> None:
    _, events = play(mixture(replace(ALL, lead=0, growth=1)), scripted(token_s=0.25))
    limits = [event.limit for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    assert limits[0] == 4


def test_negative_lead_looks_ahead() -> None:
    _, events = play(mixture(replace(ALL, lead=-3)), scripted())
    assert summarize(events).first_token_s == 1.75
    _, events = play(mixture(replace(ALL, lead=-5)), scripted())
    # the limit is at least 1 only with six tokens read
    assert summarize(events).first_token_s == 0.5 + 5 * 0.25 + 0.5


@pytest.mark.one_by_one
def test_slope_writes_a_share_of_what_it_has_read_and_the_rest_when_all_have_ended() -> None:
    _, events = play(mixture(replace(ALL, lead=0, growth=1, slope=0.25)), scripted())
    steps = [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    assert [(event.at_s, event.limit) for event in steps] == [(1.25, 1), (2.25, 1), (3.25, 1), (4.25, 997)]


@pytest.mark.one_by_one
def test_update_that_completes_interrupts_a_call_before_its_first_token() -> None:
    slow_call = Script(words=numbered_words("agg", 16), first_token_s=4, token_s=0.25)
    _, events = play(mixture(ALL), scripted(agg=slow_call))
    ends = [event for event in events if isinstance(event, StepEnded) and event.agent == "agg"]
    assert [(event.at_s, event.reason) for event in ends] == [(4.25, "stopped"), (4.25 + 4 + 15 * 0.25, "stop")]


@pytest.mark.one_by_one
@pytest.mark.parametrize(("token_s", "starts"), [(0.25, [1.25]), (2, [1.25, 3.75])])
def test_model_that_ends_early_reads_what_is_worth_it_and_its_end_is_confirmed(
    token_s: float, starts: list[float]
) -> None:
    short = Script(words=numbered_words("agg", 2), first_token_s=0.5, token_s=token_s)
    run, events = play(mixture(ALL), scripted(agg=short, length=400))
    steps = [event.at_s for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    assert steps == starts  # the second mark is reached at 3.25
    assert run.answer == "agg1 agg2"
    assert summarize(events).reason == "stop"


def test_proposers_nobody_reads_any_more_are_cancelled() -> None:
    short = Script(words=numbered_words("agg", 2), first_token_s=0.5, token_s=0.25)
    backends = scripted(agg=short, length=400)
    _, events = play(mixture(ALL), backends)
    ends = {event.agent: event.reason for event in events if isinstance(event, AgentEnded)}
    assert ends == {"agg": "stop", "p1": "cancelled", "p2": "cancelled", "p3": "cancelled"}
    assert all(backend.num_writing == backend.num_sessions == 0 for backend in backends.values())


def test_max_tokens_is_an_end_of_length(manner: Manner) -> None:
    run, events = play(mixture(ALL, max_tokens=10), scripted())
    assert isinstance(events[-1], RunEnded)
    assert events[-1].reason == "length"
    assert 0 < len(run.answer.split()) <= 10
    if manner == ONE_BY_ONE:
        assert sum(event.num_tokens for event in events if isinstance(event, Wrote) and event.agent == "agg") == 10


def test_words_come_once_and_in_order_under_every_preset() -> None:
    for name, policy in PRESETS.items():
        run, _ = play(mixture(policy), scripted(length=200))
        assert run.answer == " ".join(f"agg{i}" for i in range(1, 201)), name


def test_timer_that_rounding_makes_early_counts_as_on_time() -> None:
    """In a run that began at 0.1 s its time is a rounding error short of its timer: time must not stand."""

    async def main() -> float:
        late = Script(words=("late",), first_token_s=5)
        await asyncio.sleep(0.1)
        async with open_run(mixture(PRESETS["balanced"]), ASK, scripted(0.3, 0.02, 40, p3=late)) as one:
            return [event.at_s async for event in one.events()][-1]

    assert run(main()) > 2
