"""The calls of one run, with what each of them waits for: taken from the real engine in virtual time."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stairstream.core.events import Event, StepEnded, StepStarted, Wrote
from stairstream.core.graph import Graph
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.simulating import open_simulated
from stairstream.plan.texts import Lengths
from stairstream.sim.clock import run as run_in_virtual_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an agent, the first of its agent, or one after the end of the last.

    It waits until each upstream has written so many tokens (`needs`). `shared_tokens` of its prompt are the same as in
    the agent's call before it, so that a cache can have them. Its answer has `tokens`; `marks` are those at which
    another call may begin, the first one, and last its end.
    """

    agent: str
    model: str
    prompt_tokens: int
    shared_tokens: int
    tokens: int
    needs: Mapping[str, int]
    marks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The calls of a run, in the order of their starts, the agent that answers, and its time on idle endpoints."""

    calls: tuple[Call, ...]
    answer: str
    total_s: float


def schedule_of(graph: Graph, costs: Mapping[str, EndpointCosts], lengths: Lengths) -> Schedule:
    """The schedule of a run on idle endpoints. Under load calls come later, and are as large as there.

    Two things are not kept: a step that was due by patience begins with the last token that it read, and a call that
    was stopped before its first token still has it.
    """

    async def play() -> list[Event]:
        async with open_simulated(graph, costs, lengths, is_fleet=True) as run:
            return [event async for event in run.events()]

    events = run_in_virtual_time(play())
    models = {agent.name: agent.model for agent in graph.agents}
    ends = {(one.agent, one.step): one for one in events if isinstance(one, StepEnded)}
    starts = [one for one in events if isinstance(one, StepStarted)]
    written = {
        name: _Written([one for one in events if isinstance(one, Wrote) and one.agent == name]) for name in models
    }
    return Schedule(
        calls=with_marks([_call_of(one, ends, models, written) for one in starts]),
        answer=graph.answer,
        total_s=events[-1].at_s,
    )


def with_marks(calls: Sequence[Call]) -> tuple[Call, ...]:
    """The calls with their marks, which follow from what the others need."""
    needed = {(name, tokens) for call in calls for name, tokens in call.needs.items()}
    before, found = dict[str, int](), list[Call]()
    for call in calls:
        start = before.get(call.agent, 0)
        before[call.agent] = end = start + call.tokens
        marks = {tokens - start for name, tokens in needed if name == call.agent and start < tokens <= end}
        found.append(replace(call, marks=tuple(sorted(marks | {min(1, call.tokens), call.tokens}))))
    return tuple(found)


class _Written:
    """An agent's tokens by the characters of its text."""

    def __init__(self, events: Sequence[Wrote]) -> None:
        self._ends = [one.end for one in events]
        self._tokens = [0]
        for one in events:
            self._tokens.append(self._tokens[-1] + one.num_tokens)

    def tokens_until(self, end: int) -> int:
        """Tokens of the text up to this character."""
        return self._tokens[bisect_right(self._ends, end)]


def _call_of(
    start: StepStarted,
    ends: Mapping[tuple[str, int], StepEnded],
    models: Mapping[str, str],
    written: Mapping[str, _Written],
) -> Call:
    usage = ends[start.agent, start.step].usage
    needs = {one.agent: written[one.agent].tokens_until(one.end) for one in start.readings}
    return Call(
        agent=start.agent,
        model=models[start.agent],
        prompt_tokens=usage.prompt_tokens,
        shared_tokens=usage.cached_tokens or 0,
        tokens=usage.completion_tokens,
        needs={name: tokens for name, tokens in needs.items() if tokens},
    )
