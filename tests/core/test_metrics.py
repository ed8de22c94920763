"""Metrics are pure functions over a list of events."""

from stairstream.core.events import (
    AgentEnded,
    Event,
    LayoutChosen,
    Noted,
    Reading,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Thought,
    Wrote,
)
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.metrics import model_of, seen_share, stall_s, summarize, tokens_again, tokens_saved, usage
from stairstream.core.session import Note, Usage


def wrote(at_s: float, agent: str, start: int, end: int) -> Wrote:
    return Wrote(at_s=at_s, agent=agent, start=start, end=end, num_tokens=1, is_estimate=False)


def step(at_s: float, number: int, end: int, is_final: bool = False) -> StepStarted:
    reading = Reading(agent="p1", start=0, end=end, is_final=is_final)
    return StepStarted(at_s=at_s, agent="agg", step=number, limit=9, readings=(reading,))


def ended(at_s: float, agent: str, number: int, used: Usage) -> StepEnded:
    return StepEnded(at_s=at_s, agent=agent, step=number, reason="stop", usage=used)


EVENTS: tuple[Event, ...] = (
    RunStarted(at_s=0, run_id="r", agents=("p1", "agg"), answer="agg"),
    wrote(0.5, "p1", 0, 10),
    step(0.5, 0, 10),
    LayoutChosen(at_s=0.5, agent="agg", layout="grouped", why="because"),
    wrote(1, "agg", 0, 3),
    wrote(1.0625, "agg", 3, 6),
    wrote(1.5, "p1", 10, 20),
    ended(1.5, "p1", 0, Usage(prompt_tokens=5, cached_tokens=0, completion_tokens=2)),
    ended(1.5, "agg", 0, Usage(prompt_tokens=20, completion_tokens=2, is_estimate=True)),
    step(1.5, 1, 20, is_final=True),
    wrote(2, "agg", 6, 9),
    wrote(2.0625, "agg", 9, 12),
    ended(2.5, "agg", 1, Usage(prompt_tokens=30, cached_tokens=4, completion_tokens=2)),
    AgentEnded(at_s=2.5, agent="agg", reason="stop"),
    RunEnded(at_s=2.5, reason="stop"),
)


def test_summary_of_a_run() -> None:
    summary = summarize(EVENTS)
    assert (summary.first_token_s, summary.total_s, summary.updates, summary.reason) == (1, 2.5, 1, "stop")
    assert summary.longest_gap_s == 0.9375
    assert [agent.name for agent in summary.agents] == ["p1", "agg"]
    assert summary.agents[1].layout == "grouped"


def test_stall_is_what_pauses_have_beyond_a_tenth_of_a_second() -> None:
    assert stall_s(EVENTS, "agg") == 0.9375 - 0.1


def test_seen_share_is_the_mean_over_answer_tokens() -> None:
    assert seen_share(EVENTS, "agg") == (0.5 + 0.5 + 1 + 1) / 4
    assert seen_share(EVENTS, "p1") is None


def test_unknown_cached_tokens_stay_unknown_in_a_sum() -> None:
    assert usage(EVENTS, "agg") == Usage(prompt_tokens=50, cached_tokens=None, completion_tokens=4, is_estimate=True)


def test_tokens_again_are_those_computed_beyond_the_longest_prompt() -> None:
    assert tokens_again(EVENTS, "agg") == 20 + 26 - 30


GRAPH = Graph(
    agents=(
        Agent(name="p1", model="p", sampling=Sampling(max_tokens=10), fallbacks=("q",)),
        Agent(name="agg", model="a", reads=("p1",), sampling=Sampling(max_tokens=100)),
    ),
    answer="agg",
)


def test_tokens_saved_are_what_stopped_agents_might_still_have_written() -> None:
    for reason, saved in (("cancelled", 8), ("agreed", 8), ("stop", 0), ("failed", 0)):
        end = AgentEnded(at_s=2.5, agent="p1", reason=reason)  # type: ignore[arg-type]
        assert tokens_saved(summarize((*EVENTS, end)), GRAPH) == saved


def test_thoughts_notes_and_the_model_that_took_over_are_in_an_agents_summary() -> None:
    thought = Thought(at_s=0.25, agent="p1", start=0, end=3, num_tokens=2)
    note = Note(kind="failover", text="p failed; q goes on")
    plain = summarize(EVENTS).agents[0]
    assert (plain.thinking_tokens, plain.notes, model_of(plain, GRAPH)) == (0, (), "p")
    told = summarize((*EVENTS, thought, Noted(at_s=0.5, agent="p1", note=note))).agents[0]
    assert (told.thinking_tokens, told.notes, model_of(told, GRAPH)) == (2, (note,), "q")
    assert told.num_written == 2
