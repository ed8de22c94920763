"""A run that is over, as its observers get it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stairstream.answer import Answer
from stairstream.core.events import Event
from stairstream.core.graph import Graph
from stairstream.server.access.gate import Caller
from stairstream.server.runs.request import RunRequest
from stairstream.server.storage.values import RunUsage
from stairstream.server.wire.events import TextOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that is over, for metrics, traces, logs and history: its events, their texts, and its answer."""

    caller: Caller
    request: RunRequest
    run_id: str
    graph: Graph
    events: Sequence[Event]
    text: TextOf = field(repr=False)
    answer: Answer


Observer = Callable[[Finished], None]


def usage_of(answer: Answer) -> RunUsage:
    """Usage of a run, over all its agents."""
    usages = [one.usage for one in answer.summary.agents]
    return RunUsage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cost=answer.cost,
    )
