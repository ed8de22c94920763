"""Calls: what they use is counted, their silence is bounded, and an answer is paced."""

from collections.abc import Container, Iterator, Sequence
from itertools import pairwise

from stairstream.core.events import AgentEnded, Called, Event, Noted, Wrote
from stairstream.core.forecast import DRAIN_SHARE, SLOWEST_S
from stairstream.core.session import Began, Delta, Ended, Note, ToolDelta
from stairstream.engine.pace import FixedPace
from stairstream.sim.prove.facts import AgentFacts, Facts, Write
from stairstream.sim.prove.rules import EPSILON_S
from stairstream.sim.prove.tape import Sent


def check_usage(facts: Facts) -> Iterator[str]:
    """The usage of an agent's steps is that of all its calls, failed tries and second ones too."""
    heard = {id(item) for one in facts.agents.values() for write in one.writes for _, item in write.items}
    for name, one in facts.agents.items():
        prompt_tokens, least, most, unsure = 0, 0, 0, 0
        cut_s = {end.at_s for end in one.ends if end.reason == "cancelled"}
        for sent in facts.played.tape.sent:
            if sent.agent == name and not sent.is_prefetch:
                prompt, low, high = _cost(sent, heard)
                prompt_tokens, least, most = prompt_tokens + prompt, least + low, most + high
                # refused in the very moment in which its step was cut: nobody has heard of that
                unsure += sent.prompt_tokens if sent.is_refused and sent.ended_s in cut_s else 0
        used = sum(end.usage.prompt_tokens for end in one.ends), sum(end.usage.completion_tokens for end in one.ends)
        if not prompt_tokens <= used[0] <= prompt_tokens + unsure:
            yield f"{name} sent {prompt_tokens} prompt tokens, and its steps say {used[0]}"
        if not least <= used[1] <= most:
            yield f"{name} was sent {least} to {most} tokens, and its steps say {used[1]}"


def _cost(sent: Sent, heard: set[int]) -> tuple[int, int, int]:
    """Prompt tokens of a call, and the least and the most completion tokens that may be counted for it."""
    if sent.is_refused:
        return 0, 0, 0
    if sent.ended is not None and sent.ended.usage is not None and id(sent.ended) in heard:
        usage = sent.ended.usage
        return usage.prompt_tokens, usage.completion_tokens, usage.completion_tokens
    said = sum(item.num_tokens for item in sent.said)
    # of a try that lost, or failed, only the prompt is known
    counted = sum(item.num_tokens for item in sent.said if id(item) in heard)
    return sent.prompt_tokens, counted, said


def check_silence(facts: Facts) -> Iterator[str]:
    """No call is silent for longer than its agent allows, from the moment it has begun."""
    for name, one in facts.agents.items():
        for write in one.writes:
            if (found := _too_silent(one, write)) is not None:
                yield f"{name}: {found}"


def _too_silent(one: AgentFacts, write: Write) -> str | None:
    allowed_s: float | None = None
    since_s = write.at_s
    until_s = write.left_s if write.left_s is not None else since_s
    for at_s, item in [*write.items, (until_s, None)]:
        if allowed_s is not None and at_s > since_s + allowed_s + EPSILON_S:
            return f"a call was silent from {since_s} to {at_s}, for more than {allowed_s} s"
        since_s = at_s
        match item:
            case Began():
                allowed_s = one.agent.first_token_s
            case Delta() | ToolDelta():
                allowed_s = one.agent.gap_s
            case Note(kind="retry"):
                allowed_s = None
            case Note() | Ended() | None:
                pass
    return None


def check_pace(facts: Facts) -> Iterator[str]:
    """A paced answer comes no faster than its pace, an even one never stops while there are words, unless it is cut."""
    case = facts.case
    is_cut = any(limit is not None for limit in (case.leaves_s, case.deadline_s, case.shut_down_s, case.max_cost))
    if case.pace == "raw" or facts.run_end is None or is_cut:
        return
    events = [event for _, event in facts.agents[case.graph.answer].events]
    words = [event for event in events if isinstance(event, Wrote)]
    if isinstance(case.pace, FixedPace):
        yield from _check_fixed(words, case.pace, {event.at_s for event in events if _shows_all(event)})
    else:
        yield from _check_even(words)
        yield from _check_drained(events)


def _shows_all(event: Event) -> bool:
    """Whether all that is queued is shown with this event of the answering agent."""
    match event:
        case Called():
            return True
        case Noted():
            return event.note.kind == "failover"
        case AgentEnded():
            return event.reason in ("failed", "dropped")
        case _:
            return False


def _check_fixed(words: Sequence[Wrote], pace: FixedPace, free_s: Container[float]) -> Iterator[str]:
    """`free_s`: the times at which all that is queued is shown."""
    for before, word in pairwise(words):
        due_s = before.at_s + before.num_tokens / pace.tokens_per_s
        if word.at_s < due_s - EPSILON_S and word.at_s not in free_s:
            yield f"a word came at {word.at_s}, by its pace it was due at {due_s}"


def _check_drained(events: Sequence[Event]) -> Iterator[str]:
    """Words that are queued when all are written are shown within a hundredth of the run's time."""
    end = next((event for event in events if isinstance(event, AgentEnded)), None)
    if end is None:
        return
    for word in events:
        if isinstance(word, Wrote) and word.at_s > (1 + DRAIN_SHARE) * end.at_s + EPSILON_S:
            yield f"a word was shown at {word.at_s}, long after the end of the answer at {end.at_s}"


def _check_even(words: Sequence[Wrote]) -> Iterator[str]:
    if words and words[0].written_s is not None:
        yield f"the first word was written at {words[0].written_s} and shown at {words[0].at_s}"
    for before, word in pairwise(words):
        if word.written_s is None:
            continue
        if word.written_s > word.at_s + EPSILON_S:
            yield f"a word was shown at {word.at_s}, before it was written at {word.written_s}"
        if word.at_s > max(before.at_s, word.written_s) + before.num_tokens * SLOWEST_S + EPSILON_S:
            yield f"a word of {word.written_s} was shown at {word.at_s}, long after the one of {before.at_s}"
