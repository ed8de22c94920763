"""Numbers of a run, as pure functions over its events. Times are in seconds since the run began, sizes in tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from stairstream.core.events import (
    AgentEnd,
    AgentEnded,
    Called,
    Event,
    LayoutChosen,
    Noted,
    RunEnd,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Thought,
    Wrote,
    as_written,
)
from stairstream.core.graph import Graph
from stairstream.core.session import Layout, Note, Usage

STALL_AFTER_S = 0.1
"""A pause up to this long between two deltas is not felt as one (Nielsen's limit for an instant response)."""

_HEARD = (Wrote, Called)
"""Events of an answer that its reader gets to see."""

_OF_RUNS = (RunStarted, RunEnded)

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSummary:
    """One agent's part in a run. `thinking_tokens` are those of thoughts that were shown; `num_written` has none."""

    name: str
    reason: AgentEnd | None
    first_token_s: float | None
    steps: int
    layout: Layout | None
    usage: Usage
    error: str | None = None
    num_written: int = 0
    thinking_tokens: int = 0
    notes: tuple[Note, ...] = ()

    @property
    def num_failovers(self) -> int:
        """Number of times that the next of its fallbacks continued in place of its model."""
        return sum(note.kind == "failover" for note in self.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Times of a run as the person who waited saw them, and its cost.

    `longest_gap_written_s` is the longest gap between words as they were written, before they were paced.
    `seen_share` is the information seen per word: for each answer token the share of its references' final text
    that had been read by then, averaged; 1 under `wait`, None without references. `tokens_again` are prompt tokens
    of the answering agent that were computed more than once.
    """

    reason: RunEnd | None
    first_token_s: float | None
    total_s: float
    longest_gap_s: float
    stall_s: float
    longest_gap_written_s: float
    updates: int
    seen_share: float | None
    tokens_again: int
    degraded: tuple[str, ...]
    error: str | None
    agents: tuple[AgentSummary, ...]


def summarize(events: Sequence[Event]) -> Summary:
    """All numbers of a run that has ended (or of what there is of it so far)."""
    started = _of(RunStarted, events)[0]
    ends = _of(RunEnded, events)
    answer, written = started.answer, as_written(events)
    own = _by_agent(events)
    said = own.get(answer, ())
    return Summary(
        reason=ends[0].reason if ends else None,
        first_token_s=first_token_s(said, answer),
        total_s=events[-1].at_s,
        longest_gap_s=longest_gap_s(said, answer),
        stall_s=stall_s(said, answer),
        longest_gap_written_s=longest_gap_s(written, answer),
        updates=num_updates(said, answer),
        seen_share=seen_share(written, answer),
        tokens_again=tokens_again(said, answer),
        degraded=ends[0].degraded if ends else (),
        error=ends[0].error if ends else None,
        agents=tuple(summarize_agent(own.get(name, ()), name) for name in started.agents),
    )


def summarize_agent(events: Iterable[Event], agent: str) -> AgentSummary:
    """One agent's numbers."""
    own = [event for event in events if not isinstance(event, _OF_RUNS) and event.agent == agent]
    ends, layouts = _of(AgentEnded, own), _of(LayoutChosen, own)
    return AgentSummary(
        name=agent,
        reason=ends[0].reason if ends else None,
        first_token_s=first_token_s(own, agent),
        steps=len(_of(StepStarted, own)),
        layout=layouts[-1].layout if layouts else None,
        usage=usage(own, agent),
        error=ends[0].error if ends else None,
        num_written=sum(event.num_tokens for event in own if isinstance(event, _HEARD)),
        thinking_tokens=sum(event.num_tokens for event in _of(Thought, own)),
        notes=tuple(event.note for event in _of(Noted, own)),
    )


def first_token_s(events: Iterable[Event], agent: str) -> float | None:
    """When the agent's first word, or call of a tool, came; None if none did."""
    return next((event.at_s for event in events if isinstance(event, _HEARD) and event.agent == agent), None)


def gaps_s(events: Iterable[Event], agent: str) -> list[float]:
    """Pauses between an agent's deltas."""
    times = [event.at_s for event in events if isinstance(event, _HEARD) and event.agent == agent]
    return [later - earlier for earlier, later in pairwise(times)]


def longest_gap_s(events: Iterable[Event], agent: str) -> float:
    """The longest pause between two deltas; 0 for fewer than two."""
    return max(gaps_s(events, agent), default=0.0)


def stall_s(events: Iterable[Event], agent: str) -> float:
    """Time that the answer stood still: what pauses had beyond STALL_AFTER_S, added up."""
    return sum((gap - STALL_AFTER_S for gap in gaps_s(events, agent) if gap > STALL_AFTER_S), 0.0)


def num_updates(events: Iterable[Event], agent: str) -> int:
    """Steps after the first."""
    return max(0, sum(event.agent == agent for event in _of(StepStarted, events)) - 1)


def usage(events: Iterable[Event], agent: str) -> Usage:
    """Tokens of all the agent's steps; cached tokens are unknown (None) if one step's are."""
    steps = [event.usage for event in _of(StepEnded, events) if event.agent == agent]
    return sum(steps[1:], start=steps[0]) if steps else Usage()


def tokens_again(events: Iterable[Event], agent: str) -> int:
    """Prompt tokens computed more than once: all that were not cached, less the distinct ones (the longest prompt's).

    Where an endpoint does not say what it had cached, nothing counts as cached.
    """
    prompts = [event.usage for event in _of(StepEnded, events) if event.agent == agent]
    computed = sum(prompt.prompt_tokens - (prompt.cached_tokens or 0) for prompt in prompts)
    return max(0, computed - max((prompt.prompt_tokens for prompt in prompts), default=0))


def tokens_saved(summary: Summary, graph: Graph) -> int:
    """Tokens that were not written because their agents were stopped early, at most: what `max_tokens` left them."""
    return sum(
        max(0, graph.agent(one.name).sampling.max_tokens - one.num_written)
        for one in summary.agents
        if one.reason in ("cancelled", "agreed")
    )


def model_of(one: AgentSummary, graph: Graph) -> str:
    """The model that spoke last for an agent: its own, or the fallback that took over."""
    agent = graph.agent(one.name)
    return (agent.model, *agent.fallbacks)[one.num_failovers]


def seen_share(events: Sequence[Event], agent: str) -> float | None:
    """Per token of the agent, the share of its references' final text that it had read; the mean over its tokens."""
    lengths: dict[str, int] = {}
    for wrote in _of(Wrote, events):
        lengths[wrote.agent] = wrote.end
    share, weighted, tokens = None, 0.0, 0
    for event in events:
        if isinstance(event, StepStarted) and event.agent == agent and event.readings:
            whole = sum(lengths.get(reading.agent, 0) for reading in event.readings)
            share = sum(reading.end for reading in event.readings) / whole if whole else 1.0
        elif isinstance(event, Wrote) and event.agent == agent and share is not None:
            weighted += share * event.num_tokens
            tokens += event.num_tokens
    return weighted / tokens if tokens else None


def _by_agent(events: Iterable[Event]) -> dict[str, list[Event]]:
    """Each agent's events, so that no agent has to look through those of all others."""
    found: dict[str, list[Event]] = {}
    for event in events:
        if not isinstance(event, _OF_RUNS):
            found.setdefault(event.agent, []).append(event)
    return found


def _of(kind: type[E], events: Iterable[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]
