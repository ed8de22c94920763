"""Everything that holds of a durable run whose holders died: each check says in a line what is wrong."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from stairstream.core.events import (
    AgentEnded,
    Called,
    Event,
    Noted,
    Reading,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Wrote,
)
from stairstream.core.graph import Agent
from stairstream.core.session import Delta, Note
from stairstream.sim.prove.played import Holder, Played
from stairstream.sim.prove.rules import EPSILON_S, TINY, Rules, Upstream
from stairstream.sim.prove.takeovers import texts_before
from stairstream.sim.prove.texts_shown import cut_at_stop


def check_events(played: Played) -> Iterator[str]:
    """A client that follows it has every event of the journal, once and in order, up to one last one."""
    shown = played.events
    if not played.heard[0] or played.heard[0][1:] != shown[1:]:
        yield f"a client heard {len(played.heard[0])} events, where the journal has {len(shown)}"
    if not shown or not isinstance(shown[0], RunStarted) or not isinstance(shown[-1], RunEnded):
        yield "its first event, or its last, is none"
    for kind in (RunStarted, RunEnded):
        if (count := sum(isinstance(event, kind) for event in shown)) != 1:
            yield f"{count} {kind.__name__}"
    if any(later.at_s < earlier.at_s - EPSILON_S for earlier, later in pairwise(shown)):
        yield "times go back"


def check_texts(played: Played) -> Iterator[str]:
    """Words are shown without a gap and once; the text is that of the sessions, as far as it was kept."""
    for agent in played.case.graph.agents:
        size, text = 0, texts_before(played.entries, agent.name)
        for event in played.events:
            if isinstance(event, Wrote) and event.agent == agent.name:
                if event.start != size or event.end <= event.start:
                    yield f"{agent.name}: an event covers characters {event.start} to {event.end} after {size}"
                size = event.end
        if size != len(text):
            yield f"{agent.name}: events cover {size} of {len(text)} characters"
        for number, holder in enumerate(played.holders):
            yield from _check_part(played, agent, holder, number)


def _check_part(played: Played, agent: Agent, holder: Holder, number: int) -> Iterator[str]:
    """One holder kept of an agent the words that its sessions said, and all of them if it did not die."""
    end = played.holders[number + 1].start if number + 1 < len(played.holders) else len(played.entries)
    before = texts_before(played.entries[: holder.start], agent.name)
    kept = texts_before(played.entries[:end], agent.name)
    said = before + "".join(
        item.value.text
        for item in holder.tape.entries
        if item.agent == agent.name and isinstance(item.value, Delta) and not item.value.is_thinking
    )
    expected = max(cut_at_stop(said, agent.sampling.stop), before, key=len)  # what was kept stays, whatever it begins
    if not expected.startswith(kept) or (not holder.is_lost and kept != expected):
        yield f"{agent.name}: holder {number} kept {kept!r} where {expected!r} was written"


def check_continued(played: Played) -> Iterator[str]:
    """Sessions continue exactly the words kept; an agent that had ended has none."""
    for number, holder in enumerate(played.holders):
        before = played.entries[: holder.start]
        ended = {event.agent for event, _, _ in before if isinstance(event, AgentEnded)}
        seen: set[str] = set()
        for entry in holder.tape.entries:
            if entry.mark != "opening" or entry.agent in seen:
                continue
            seen.add(entry.agent)
            agent = played.case.graph.agent(entry.agent)
            begun = played.case.written if agent.name == played.case.graph.answer else ""
            expected, told = begun + texts_before(before, entry.agent), entry.value[1]  # type: ignore[index]
            if told != expected:
                yield f"{entry.agent}: holder {number} continues {told!r} where {expected!r} was kept"
            if entry.agent in ended:
                yield f"{entry.agent} had ended, and holder {number} has asked it again"


@dataclass
class _Reader:
    """An agent, as far as its events have been read, in order."""

    rules: Rules
    open_step: StepStarted | None = None
    step_tokens: int = 0
    held_tokens: int = 0  # counted in an earlier step, and not shown in it: a stop string could have begun there
    last_step: int = -1
    read: dict[str, Reading] = field(default_factory=dict)
    is_again: bool = True
    has_called: bool = False
    has_begun: bool = False  # its client began the answer
    num_failovers: int = 0
    is_full: bool = False  # its context holds no more: it waits for nothing, and writes to the end without reading
    ended: AgentEnded | None = None


def check_steps(played: Played) -> Iterator[str]:
    """Every step ends once, steps are made by the policy and with news, and what was lost is in the usage."""
    graph, written = played.case.graph, played.case.written
    known = {agent.name: _Reader(Rules(agent, [Upstream(name) for name in agent.reads])) for agent in graph.agents}
    known[graph.answer].has_begun = bool(written)
    for entry in played.entries:
        if entry.is_new and not isinstance(entry.event, RunStarted | RunEnded):
            one = known[entry.event.agent]
            if one.ended is not None:
                yield f"{entry.event.agent} does something after its end: {entry.event}"
            yield from _take(one, entry.event)
            _tell_readers(known, entry.event)
    for name, one in known.items():
        if one.open_step is not None:
            yield f"{name}: step {one.open_step.step} has no end"
        if one.ended is None:
            yield f"{name} has no end"


def _tell_readers(known: Mapping[str, _Reader], event: Event) -> None:
    for reader in known.values():
        for upstream in reader.rules.upstream:
            if isinstance(event, RunStarted | RunEnded) or upstream.name != event.agent:
                continue
            forward = known[event.agent].rules.agent.forward
            kind = type(event).__name__
            if (kind == "Wrote" and forward != "thinking") or (kind == "Thought" and forward != "answer"):
                upstream.written += event.num_tokens  # type: ignore[union-attr]
            upstream.has_ended = upstream.has_ended or kind == "AgentEnded"


def _take(one: _Reader, event: Event) -> Iterator[str]:
    match event:
        case Wrote():
            one.step_tokens += event.num_tokens
            one.rules.written += event.num_tokens
        case StepStarted():
            yield from _begin(one, event)
        case StepEnded():
            yield from _end(one, event)
        case Called():
            one.has_called = True
        case Noted(note=Note(kind="full")):
            one.is_full = True  # a later holder finds it again, and does not say so
        case Noted():
            if event.note.kind in ("failover", "takeover"):
                is_cut = one.is_again
                one.is_again = True
                if is_cut or (event.note.kind == "failover" and not one.step_tokens):
                    one.rules.steps = max(0, one.rules.steps - 1)
                one.is_again = is_cut or event.note.kind == "failover"
                one.num_failovers += event.note.kind == "failover"
        case AgentEnded():
            one.ended = event
        case _:
            pass


def _begin(one: _Reader, event: StepStarted) -> Iterator[str]:
    name = event.agent
    if one.open_step is not None or event.step != one.last_step + 1:
        yield f"{name}: step {event.step} follows step {one.last_step}, which has {'no' * bool(one.open_step)} end"
    has_news = not event.readings
    for reading in event.readings:
        before = one.read.get(reading.agent)
        if reading.start != (before.end if before else 0) or reading.end < reading.start:
            yield f"{name}: step {event.step} reads {reading.agent} from {reading.start} after {before}"
        has_news = has_news or reading.start < reading.end or (reading.is_final and not (before and before.is_final))
        one.read[reading.agent] = reading
    if not (has_news or one.is_again or one.is_full):
        yield f"{name}: step {event.step} has nothing new to read"
    if (
        event.readings
        and not one.is_full
        and not any(one.rules.is_present(upstream) for upstream in one.rules.upstream)
    ):
        yield f"{name}: step {event.step} comes before any upstream has reached its mark"
    policy, most = one.rules.policy, math.inf if one.is_full else one.rules.limit
    for upstream in one.rules.upstream:
        most = max(most, math.inf if upstream.has_ended else policy.lead + policy.slope * upstream.written)
    if event.readings and event.limit + one.rules.written > most + TINY + 1:
        yield f"{name}: step {event.step} may write {event.limit} after {one.rules.written}, and the limit is {most}"
    one.rules.steps += 1
    one.rules.limit = one.rules.written + event.limit
    one.open_step, one.last_step, one.step_tokens, one.is_again = event, event.step, 0, True


def _end(one: _Reader, event: StepEnded) -> Iterator[str]:
    if one.open_step is None or event.step != one.open_step.step:
        yield f"{event.agent}: an end of step {event.step} without its beginning"
    counted = one.held_tokens + event.usage.completion_tokens
    if event.reason == "failed" and counted < one.step_tokens:
        yield f"{event.agent}: step {event.step} was lost with {one.step_tokens} tokens, and {event.usage}"
    one.held_tokens = max(0, counted - one.step_tokens)
    one.open_step = None
    one.rules.written += event.uncounted_tokens
    one.is_again = event.reason in ("failed", "cancelled") or _is_wordless(one, event)


def _is_wordless(one: _Reader, event: StepEnded) -> bool:
    """Whether its call has failed by ending before a word: at a limit if it is no answer or a fallback is left, else
    only if both is so."""
    if one.step_tokens or one.has_called or event.reason not in ("stop", "length"):
        return False
    wanted = (not one.rules.written and not one.has_begun, one.num_failovers < len(one.rules.agent.fallbacks))
    return any(wanted) if event.reason == "length" else all(wanted)


def check_in_time(played: Played) -> Iterator[str]:
    """A deadline counts from the run's beginning, through all its holders."""
    deadline_s, end = played.case.deadline_s, played.events[-1]
    if deadline_s is not None and end.at_s > max(deadline_s, played.holders[-1].start_s) + TINY:
        yield f"it ends at {end.at_s:g} s, its deadline is {deadline_s:g} s"


TAKEOVER_RULES: Mapping[str, Callable[[Played], Iterator[str]]] = {
    "shown once": check_events,
    "texts are what was written": check_texts,
    "words are continued": check_continued,
    "steps are those of the policy": check_steps,
    "it ends in time": check_in_time,
}
