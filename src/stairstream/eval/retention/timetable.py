"""Computes which upstream tokens had been read before each token of an answer: runs the real engine in virtual time, on
scripted models that write given numbers of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.core.events import Event, Reading, StepStarted, Wrote
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS, Policy
from stairstream.engine.run import open_run
from stairstream.sim.clock import run as run_in_virtual_time

_ANSWER = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Speed of a model: seconds to a call's first token, then between tokens."""

    first_token_s: float = 0.2
    token_s: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedStep:
    """The answer's tokens [start, end) were written when `num_read` tokens of each upstream had been read."""

    start: int
    end: int
    num_read: tuple[int, ...]
    is_final: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """The steps of an answer, and the times that its reader sees."""

    steps: tuple[TimedStep, ...]
    first_token_s: float
    total_s: float
    longest_gap_s: float
    seen_share: float


def make_timetable(
    policy: Policy | None,
    upstream_tokens: Sequence[int],
    answer_tokens: int,
    speed: Speed,
    upstream_speeds: Sequence[Speed] | None = None,
) -> Timetable:
    """The timetable of an answer of `answer_tokens` that reads upstreams of `upstream_tokens`; all numbers at least 1.

    An answer without upstreams needs no policy. Without `upstream_speeds` all have the answer's `speed`.
    """
    graph = _graph(policy or PRESETS["wait"], upstream_tokens, answer_tokens)
    counts = dict(zip((agent.name for agent in graph.agents), (*upstream_tokens, answer_tokens), strict=True))
    speeds = (*(upstream_speeds or [speed] * len(upstream_tokens)), speed)
    # each token is one character, so that offsets are numbers of tokens
    backends = {
        name: ScriptedBackend(Script(words="x" * count, first_token_s=its.first_token_s, token_s=its.token_s))
        for (name, count), its in zip(counts.items(), speeds, strict=True)
    }

    async def main() -> list[Event]:
        async with open_run(graph, question("?"), backends) as run:
            return [event async for event in run.events()]

    events = run_in_virtual_time(main())
    summary = summarize(events)
    assert summary.first_token_s is not None
    return Timetable(
        steps=tuple(_steps(events)),
        first_token_s=summary.first_token_s,
        total_s=max(event.at_s for event in events if isinstance(event, Wrote) and event.agent == _ANSWER),
        longest_gap_s=summary.longest_gap_s,
        seen_share=summary.seen_share or 0.0,
    )


def _graph(policy: Policy, upstream_tokens: Sequence[int], answer_tokens: int) -> Graph:
    proposers = tuple(
        Agent(name=f"p{i}", model=f"p{i}", sampling=Sampling(max_tokens=count + 1))
        for i, count in enumerate(upstream_tokens, 1)
    )
    answer = Agent(
        name=_ANSWER,
        model=_ANSWER,
        reads=tuple(one.name for one in proposers),
        policy=policy,
        sampling=Sampling(max_tokens=answer_tokens + 1),
    )
    return Graph(agents=(*proposers, answer), answer=_ANSWER)


def _steps(events: Sequence[Event]) -> list[TimedStep]:
    """The steps that wrote something; one that only read is merged into the next."""
    found: list[TimedStep] = []
    readings: tuple[Reading, ...] = ()
    written = 0
    starts: list[tuple[int, tuple[Reading, ...]]] = []
    for event in events:
        if isinstance(event, StepStarted) and event.agent == _ANSWER:
            readings = event.readings or readings
            starts.append((written, readings))
        elif isinstance(event, Wrote) and event.agent == _ANSWER:
            written = event.end
    for number, (start, seen) in enumerate(starts):
        end = starts[number + 1][0] if number + 1 < len(starts) else written
        if end > start:
            found.append(
                TimedStep(
                    start=start,
                    end=end,
                    num_read=tuple(one.end for one in seen),
                    is_final=tuple(one.is_final for one in seen),
                )
            )
    return found
