"""A run that another process, which is lost, has begun: what is put back, and what is said of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stairstream.core.costs import Meter
from stairstream.core.events import Event, Noted, StepEnded, Thought, Wrote
from stairstream.core.graph import Graph
from stairstream.core.journal import AgentPast, Entry, Past
from stairstream.core.messages import Conversation
from stairstream.core.session import Note, Usage
from stairstream.engine.output import Output
from stairstream.engine.room import ContextRoom

TAKEN_OVER = "the process that ran it was lost; another one continues"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A run by its journal so far; `at_s` is how long ago it began, in seconds."""

    entries: Sequence[Entry]
    at_s: float


def restore(entries: Sequence[Entry], graph: Graph, outputs: Mapping[str, Output], meter: Meter) -> Past:
    """The run's past; puts what its agents have written back into their outputs, and what that has cost on the meter.

    The journal begins with its run's first event, and has no last one.
    """
    past = Past(graph)
    for entry in entries:
        event, text, _ = entry
        past.take(entry)
        if entry.is_new:
            meter.take(event)
            if isinstance(event, Wrote | Thought):
                outputs[event.agent].restore(event, text)
    assert past.run_id, "a journal begins with RunStarted"
    assert not past.is_over, "a run that is over can't be continued"
    return past


def take_over(past: Past, conversation: Conversation, at_s: float) -> Iterator[Event]:
    """The first events after a takeover: calls in flight are lost, and the answer continues.

    What had come of them stays; what they have used is an estimate.
    """
    graph = past.graph
    for agent in graph.agents:
        one = past.agents[agent.name]
        if one.ended is not None:
            continue
        if one.step.in_call:
            usage = _usage_of_call(one, past, conversation)
            yield StepEnded(at_s=at_s, agent=agent.name, step=one.step.index, reason="failed", usage=usage)
        if one.step.in_call or agent.name == graph.answer:
            yield Noted(at_s=at_s, agent=agent.name, note=Note(kind="takeover", text=TAKEN_OVER))


def _usage_of_call(one: AgentPast, past: Past, conversation: Conversation) -> Usage:
    """The prompt as far as it can be known, and what came of the call."""
    prompt_tokens = ContextRoom.of(one.agent, conversation).prompt_tokens + one.num_tokens - one.step.tokens
    for reading in one.readings:
        prompt_tokens += _tokens_until(past.agents[reading.agent], reading.end)
    completion_tokens = one.step.tokens + one.step.thinking_tokens + one.step.call_tokens
    used = Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, is_estimate=True)
    return used + one.step.spent


def _tokens_until(one: AgentPast, end: int) -> int:
    """About so many tokens has the text that its readers see up to a character."""
    lengths = {"answer": [one.words], "thinking": [one.thoughts], "both": [one.words, one.thoughts]}[one.agent.forward]
    characters = sum(length.characters for length in lengths)
    return round(one.num_forwarded * end / characters) if characters else 0
