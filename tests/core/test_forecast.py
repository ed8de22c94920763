"""When the next words of an answer can come, foreseen from events."""

from collections.abc import Iterator

import pytest

from stairstream.core.events import AgentEnded, Event, Reading, StepEnded, StepStarted, Wrote
from stairstream.core.forecast import CAUTION, DRAIN_SHARE, HURRY, LATE_S, SLOWEST_S, Forecast
from stairstream.core.policy import Policy
from stairstream.core.session import Usage

POLICY = Policy(first_chunk=10, growth=2, quorum="all", patience_s=0.5, lead=0, slope=0.4)


def wrote(agent: str, at_s: float, num_tokens: int = 1) -> Wrote:
    return Wrote(at_s=at_s, agent=agent, start=0, end=1, num_tokens=num_tokens, is_estimate=False)


def read(step: int, at_s: float, limit: int, finals: int = 0) -> StepStarted:
    readings = tuple(Reading(agent=f"p{i}", start=0, end=1, is_final=i < finals) for i in range(2))
    return StepStarted(at_s=at_s, agent="agg", step=step, limit=limit, readings=readings)


def end_step(step: int, at_s: float) -> StepEnded:
    return StepEnded(at_s=at_s, agent="agg", step=step, reason="limit", usage=Usage())


def upstream(until_s: float, tokens_per_s: float = 10.0, agents: tuple[str, ...] = ("p0", "p1")) -> Iterator[Event]:
    for i in range(1, int(until_s * tokens_per_s) + 1):
        for agent in agents:
            yield wrote(agent, i / tokens_per_s)


def seeing(*events: Event, policy: Policy = POLICY) -> Forecast:
    forecast = Forecast(policy, "agg", ["p0", "p1"])
    for event in events:
        forecast.see(event)
    return forecast


def begun() -> list[Event]:
    """Both wrote 10 tokens at 10/s; a step of 4 tokens began at 1 s, spoke at 1.3 s and has ended."""
    return [
        *upstream(1.0),
        read(0, 1.0, limit=4),
        *(wrote("agg", 1.3 + 0.02 * i) for i in range(4)),
        end_step(0, 1.36),
    ]


def test_words_are_spread_over_the_time_to_the_next_mark_and_the_latency_of_a_call() -> None:
    forecast = seeing(*begun())
    # 20 more tokens until the mark of 30, at the rate that 10 tokens in 1.4 s have by now; then a call of 0.3 s
    rate = 9 / (1.4 - 0.1)
    assert forecast.interval_s(3, 1.4) == pytest.approx(min(SLOWEST_S, CAUTION * (20 / rate + 0.3) / 3))


def test_words_that_the_step_will_still_write_take_their_share() -> None:
    forecast = seeing(*begun()[:-3])  # two of four are written, at 0.02 s each
    alone = seeing(*begun())
    assert forecast.interval_s(2, 1.34) == pytest.approx(alone.interval_s(4, 1.34), rel=0.01)


def test_an_upstream_that_stands_still_makes_the_answer_slower_but_never_stops_it() -> None:
    forecast = seeing(*begun())
    intervals = [forecast.interval_s(3, now) for now in (1.4, 2.0, 4.0, 60.0)]
    assert intervals == sorted(intervals)
    assert intervals[-1] == SLOWEST_S


def test_an_upstream_that_ends_brings_the_next_words_nearer() -> None:
    forecast = seeing(*begun())
    before = forecast.interval_s(3, 1.5)
    assert forecast.see(AgentEnded(at_s=1.5, agent="p0", reason="stop"))
    assert forecast.see(AgentEnded(at_s=1.5, agent="p1", reason="stop"))
    assert forecast.interval_s(3, 1.5) == pytest.approx(max(LATE_S, CAUTION * 0.3) / 3)
    assert forecast.interval_s(3, 1.5) < before


def test_a_late_call_is_expected_at_any_moment() -> None:
    forecast = seeing(*begun(), *(wrote(name, 3.0, 20) for name in ("p0", "p1")), read(1, 3.0, limit=8))
    assert forecast.interval_s(1, 9.0) == LATE_S


def test_the_latency_of_calls_grows_with_what_they_read() -> None:
    events = [
        *begun(),
        *(wrote(name, 3.0, 20) for name in ("p0", "p1")),
        read(1, 3.0, limit=8),
        wrote("agg", 3.7),
        end_step(1, 3.7),
    ]
    forecast = seeing(*events, *(AgentEnded(at_s=4.0, agent=name, reason="stop") for name in ("p0", "p1")))
    # 20 tokens read: 0.3 s; 60: 0.7 s; the last one reads no more than that
    assert forecast.interval_s(1, 4.0) == pytest.approx(CAUTION * 0.7)


def test_the_slower_ones_are_waited_for_no_longer_than_the_patience() -> None:
    policy = Policy(first_chunk=10, growth=2, quorum=1, patience_s=0.5, lead=0, slope=0.4)
    slow = [wrote("p1", 0.1 + i * 0.5) for i in range(3)]
    events = [*upstream(2.0, agents=("p0",)), *slow, read(0, 1.0, limit=4), wrote("agg", 1.0), end_step(0, 1.0)]
    forecast = seeing(*events, policy=policy)
    rate = 19 / (2.0 - 0.1)
    assert forecast.interval_s(10, 2.0) == pytest.approx(CAUTION * (10 / rate + 0.5) / 10)


def test_an_answer_that_nothing_holds_back_is_shown_faster_than_it_is_written() -> None:
    ends = [AgentEnded(at_s=1.5, agent=name, reason="stop") for name in ("p0", "p1")]
    last: list[Event] = [read(1, 1.5, limit=90, finals=2), *(wrote("agg", 1.8 + 0.02 * i) for i in range(10))]
    forecast = seeing(*begun(), *ends, *last)
    assert forecast.interval_s(5, 2.0) == pytest.approx(0.02 / HURRY)


def test_what_is_left_at_the_end_is_shown_within_a_share_of_the_run() -> None:
    forecast = seeing(*begun(), AgentEnded(at_s=5.0, agent="agg", reason="stop"))
    assert 8 * forecast.interval_s(8, 5.0) == pytest.approx(5.0 * DRAIN_SHARE)
    now = 5.0
    for queued in range(8, 0, -1):
        now += forecast.interval_s(queued, now)
    assert now == pytest.approx(forecast.latest_s) == 5.0 * (1 + DRAIN_SHARE)
