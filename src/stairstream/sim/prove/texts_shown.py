"""Texts that are shown: exactly what was written, once and in order, and no stop string in it."""

from collections.abc import Iterator, Sequence

from stairstream.core.events import Called, Thought, Wrote
from stairstream.core.session import Delta, Ended, ToolDelta
from stairstream.sim.prove.facts import AgentFacts, Facts
from stairstream.sim.prove.tape import Sent


def check_texts(facts: Facts) -> Iterator[str]:
    """An agent's text is the text of its sessions up to the first stop string, in gapless events."""
    for name, one in facts.agents.items():
        written = facts.words(name)
        expected = cut_at_stop(written, one.agent.sampling.stop)
        shown = facts.played.texts[name]
        if shown != expected:
            yield f"{name} shows {shown!r} where {expected!r} was written"
        size, thoughts = 0, 0
        for _, event in one.events:
            if isinstance(event, Wrote):
                if event.start != size or event.end <= event.start:
                    yield f"{name}: an event covers characters {event.start} to {event.end} after {size}"
                size = event.end
            elif isinstance(event, Thought):
                if event.start != thoughts:
                    yield f"{name}: thoughts from {event.start} follow {thoughts}"
                thoughts = event.end
        if size != len(shown):
            yield f"{name}: events cover {size} of {len(shown)} characters"


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text in front of the stop string that is complete first."""
    if not stops:
        return text
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text.endswith(stop, 0, end)]
        if found:
            return text[: end - max(map(len, found))]
    return text


def check_calls_whole(facts: Facts) -> Iterator[str]:
    """The items of a write are what one call of a model said: from its first item on, and to its end if it ended."""
    origin = {id(item): (sent, index) for sent in facts.played.tape.sent for index, item in enumerate(sent.said)}
    for name, one in facts.agents.items():
        for write in one.writes:
            source: Sent | None = None
            count = 0
            for _, item in write.items:
                if not isinstance(item, Delta | ToolDelta):
                    continue
                sent, index = origin.get(id(item), (None, 0))
                if sent is None or index != count or (source is not None and sent is not source):
                    yield f"{name}: delta {count} of a write is not what the model said there"
                    return
                source, count = sent, count + 1
            if source is not None and write.ended is not None and count < len(source.said):
                yield f"{name}: a write brought {count} of the {len(source.said)} deltas of its call"
        called = [event for _, event in one.events if isinstance(event, Called)]
        pieces = [item for write in one.writes for _, item in write.items if isinstance(item, ToolDelta)]
        if [event.arguments for event in called] != [item.arguments for item in pieces]:
            yield f"{name}: the calls of tools differ from what its model said"


def check_continued(facts: Facts) -> Iterator[str]:
    """A session that continues an answer is told exactly the words so far."""
    for agent, written, expected in facts.played.tape.continued:
        if written != expected:
            yield f"{agent}: a session was to continue {written!r} where {expected!r} had been written"


def check_lengths(facts: Facts) -> Iterator[str]:
    """No answer is longer than max_tokens, nor a write than its limit, where tokens are counted exactly."""
    exact = {name for name, model in facts.case.models.items() if model.usage == "exact"}
    for name, one in facts.agents.items():
        if not exact.issuperset((one.agent.model, *one.agent.fallbacks)):
            continue
        total = 0
        for write in one.writes:
            count = _num_tokens(write.items)
            total += count
            if count > write.limit:
                yield f"{name} wrote {count} tokens in a step of {write.limit}"
        if total > one.agent.sampling.max_tokens:
            yield f"{name} wrote {total} tokens of {one.agent.sampling.max_tokens}"


def _num_tokens(items: Sequence[tuple[float, object]]) -> int:
    return sum(item.num_tokens for _, item in items if isinstance(item, Delta) and not item.is_thinking)


def check_errors_kept_out(facts: Facts) -> Iterator[str]:
    """No text of an error, and none of a note, is in a prompt."""
    said = [one.end.error for one in facts.agents.values() if one.end is not None and one.end.error]
    said += [note.note.text for one in facts.agents.values() for note in one.notes]
    for agent, prompt in facts.played.tape.prompts:
        if any(text in prompt for text in said):
            yield f"{agent} was shown an error: {prompt!r}"


def last_ended(one: AgentFacts) -> Ended | None:
    """The end of the agent's last write, None where that was cut."""
    return one.writes[-1].ended if one.writes else None
