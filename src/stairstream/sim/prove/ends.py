"""Ends: a run ends, in time, for the reason it says, and tells what its answer had to do without."""

from collections.abc import Iterator

from stairstream.core.events import AgentEnded, Called, Event, RunEnded, RunStarted, StepEnded, Thought, Wrote
from stairstream.core.session import Delta
from stairstream.sim.prove.case import PRICE
from stairstream.sim.prove.facts import AgentFacts, Facts, Write
from stairstream.sim.prove.rules import EPSILON_S
from stairstream.sim.prove.texts_shown import last_ended

OWN_ENDS = ("stop", "length", "content_filter", "tool_calls")


def _is_late_word(event: Event, end: AgentEnded | None, answer: str) -> bool:
    """Whether it is a word of a paced answer, shown after it was written or flushed in the moment of the end."""
    if not isinstance(event, Wrote | Thought):
        return False
    is_flushed = end is not None and event.agent == answer and abs(event.at_s - end.at_s) < EPSILON_S
    return event.written_s is not None or is_flushed


def check_order(facts: Facts) -> Iterator[str]:
    """Events come in the order of time; each agent ends once, and the run last."""
    events, at_s = facts.played.events, 0.0
    is_paced, answer = facts.case.pace != "raw", facts.case.graph.answer
    if not events or not isinstance(events[0], RunStarted) or not isinstance(events[-1], RunEnded):
        yield "a run begins with RunStarted and ends with RunEnded"
        return
    for event in events:
        if event.at_s < at_s - EPSILON_S:
            yield f"time runs backwards, from {at_s} to {event.at_s}"
        at_s = max(at_s, event.at_s)
    for name, one in facts.agents.items():
        said = [event for _, event in one.events if not (is_paced and _is_late_word(event, one.end, answer))]
        ends = [index for index, event in enumerate(said) if isinstance(event, AgentEnded)]
        if ends != [len(said) - 1]:
            yield f"{name} ends {len(ends)} times, or says more after its end"
        if len(one.starts) != len(one.ends) or [s.step for s in one.starts] != [e.step for e in one.ends]:
            yield f"{name}: {len(one.starts)} steps begin, {len(one.ends)} end"


def check_in_time(facts: Facts) -> Iterator[str]:
    """A run with a deadline has ended by then, one that is left or shut down at once."""
    case, end = facts.case, facts.run_end
    if end is None:
        return
    for name, limit_s in (("deadline", case.deadline_s), ("shutdown", case.shut_down_s), ("leaving", case.leaves_s)):
        if limit_s is not None and end.at_s > limit_s + EPSILON_S:
            yield f"the run ended at {end.at_s}, after its {name} at {limit_s}"
    if facts.played.ended_s > end.at_s + EPSILON_S:
        yield f"leaving took until {facts.played.ended_s}, where the run had ended at {end.at_s}"


def check_reasons(facts: Facts) -> Iterator[str]:
    """Each agent's end, and the run's, is for the reason that it says."""
    for name, one in facts.agents.items():
        if one.end is None:
            continue
        if (one.end.error is None) != (one.end.reason not in ("failed", "dropped")):
            yield f"{name} ended by {one.end.reason} with the error {one.end.error!r}"
        if not _is_honest(facts, one, one.end):
            yield f"{name} says that it ended by {one.end.reason} at {one.end.at_s}, which is not so"
    end, answer = facts.run_end, facts.agents[facts.case.graph.answer]
    if end is not None and answer.end is not None and (end.reason, end.error is None) != _end_of_run(facts, answer):
        yield f"the run ended by {end.reason}, error {end.error!r}, where its answer ended by {answer.end.reason}"


def _is_honest(facts: Facts, one: AgentFacts, end: AgentEnded) -> bool:
    case, last = facts.case, last_ended(one)
    reason = None if last is None else last.reason
    has_words = bool(facts.played.texts[end.agent]) or _has_called(one)
    stops = one.ends[-1].stop_string if one.ends else None
    match end.reason:
        case "stop":
            is_unread = any(note.note.kind == "unread" for note in one.notes)
            return reason == "stop" or stops is not None or is_unread or _is_cut(facts, one)
        case "length":
            is_last_limit = reason == "limit" or _num_written(one) >= one.agent.sampling.max_tokens
            return reason == "length" or is_last_limit
        case "content_filter" | "tool_calls":
            return reason == end.reason
        case "failed":
            return has_words or _is_cut(facts, one)
        case "dropped":
            return not has_words
        case "cancelled":
            return _is_left(facts, end) or _is_without_reader(facts, end)
        case "agreed":
            notes = [note for other in facts.agents.values() for note in other.notes if note.note.kind == "agreed"]
            return any(end.agent in note.note.text for note in notes)
        case "deadline":
            return case.deadline_s is not None and abs(end.at_s - case.deadline_s) < EPSILON_S
        case "budget":
            return case.max_cost is not None
        case "shutdown":
            return case.shut_down_s is not None and abs(end.at_s - case.shut_down_s) < EPSILON_S


def _is_cut(facts: Facts, one: AgentFacts) -> bool:
    """Whether a stop string ended its text."""
    return len(facts.played.texts[one.agent.name]) < len(facts.words(one.agent.name))


def _has_called(one: AgentFacts) -> bool:
    return any(isinstance(event, Called) for _, event in one.events)


def _num_written(one: AgentFacts) -> int:
    """Its tokens, call by call, by whichever count is the most."""
    return sum(_most_tokens(write) for write in one.writes)


def _most_tokens(write: Write) -> int:
    """By its deltas; by its endpoint's count; by its limit, if the endpoint says that it has come to that."""
    ours, ended = _num_tokens(write), write.ended
    if ended is None:
        return ours
    return max(ours, ended.num_tokens or 0, write.limit if ended.reason == "limit" else 0)


def _num_tokens(write: Write) -> int:
    return sum(item.num_tokens for _, item in write.items if isinstance(item, Delta) and not item.is_thinking)


def _is_left(facts: Facts, end: AgentEnded) -> bool:
    return facts.case.leaves_s is not None and abs(end.at_s - facts.case.leaves_s) < EPSILON_S


def _is_without_reader(facts: Facts, end: AgentEnded) -> bool:
    """Whether all of its readers had ended when it was cancelled."""
    if end.agent == facts.case.graph.answer:
        return False
    readers = [facts.agents[name] for name in facts.case.graph.readers(end.agent)]
    return all(one.end is not None and one.end_index < facts.agents[end.agent].end_index for one in readers)


def _end_of_run(facts: Facts, answer: AgentFacts) -> tuple[str, bool]:
    """The reason of a run whose answer ended so, and whether there is no error."""
    assert answer.end is not None
    has_words = bool(facts.played.texts[answer.agent.name]) or _has_called(answer)
    match answer.end.reason:
        case "deadline" | "budget" as reason:
            return (reason, True) if has_words else ("failed", False)
        case "failed" | "dropped":
            return "failed", False
        case "shutdown":
            return "shutdown", False
        case reason:
            return reason, True


def check_degraded(facts: Facts) -> Iterator[str]:
    """`degraded` names all that the answer had to do without, and nothing else."""
    end = facts.run_end
    if end is None:
        return
    expected = sorted(_missing(facts))
    said = sorted(end.degraded)
    if len(said) != len(expected) or not all(
        line.startswith(beginning) for line, beginning in zip(said, expected, strict=True)
    ):
        yield f"degraded says {said}, where there was {expected}"


def _missing(facts: Facts) -> Iterator[str]:
    """The beginning of each line that is to be said."""
    answer = facts.agents[facts.case.graph.answer]
    is_whole = answer.end is not None and answer.end.reason not in ("failed", "dropped", "cancelled", "shutdown")
    for name, one in facts.agents.items():
        for note in one.notes:
            if note.note.kind in ("failover", "full", "unread"):
                yield f"{name}: {note.note.text}"
        if one is answer or one.end is None:
            continue
        if one.end.reason == "dropped":
            yield f"{name} was dropped: {one.end.error}"
        elif one.end.reason == "failed":
            yield f"{name} broke off after "
        elif is_whole and not one.forwarded:
            yield f"{name} {'had said' if one.end.reason in ('cancelled', 'deadline', 'budget') else 'gave'} nothing"
    if is_whole and answer.agent.reads and not any(facts.agents[name].forwarded for name in answer.agent.reads):
        yield f"{answer.agent.name} answered alone"


def check_clients(facts: Facts) -> Iterator[str]:
    """Every client gets every event once and in order, also one that leaves and comes back."""
    for number, heard in enumerate(facts.played.heard):
        if heard[1:] != facts.played.events[1:] or not heard:
            yield f"client {number} got {len(heard)} events, which are not the {len(facts.played.events)} of the run"


def check_unread(facts: Facts) -> Iterator[str]:
    """Nobody writes on for readers that have all ended."""
    answer = facts.case.graph.answer
    for name, one in facts.agents.items():
        ends = [facts.agents[reader].end for reader in facts.case.graph.readers(name)]
        if name != answer and one.end is not None and all(ends):
            last_s = max(end.at_s for end in ends if end is not None)
            if one.end.at_s > last_s + EPSILON_S:
                yield f"{name} ended at {one.end.at_s}, its last reader at {last_s}"


def check_budget(facts: Facts) -> Iterator[str]:
    """A run ends as soon as the steps that are over have cost its budget, and not before anything has."""
    most, cost = facts.case.max_cost, 0.0
    if most is None or facts.run_end is None:
        return
    crossed_s = None
    for event in facts.played.events:
        if isinstance(event, StepEnded):
            cost += (event.usage.prompt_tokens * PRICE.prompt + event.usage.completion_tokens * PRICE.completion) / 1e6
            if cost >= most and crossed_s is None:
                crossed_s = event.at_s
    is_ended = any(one.end is not None and one.end.reason == "budget" for one in facts.agents.values())
    is_exact = all(model.usage == "exact" for model in facts.case.models.values())
    if is_ended and is_exact and cost < most - 1e-9:
        yield f"the run ended by its budget of {most} at {cost}"
    if crossed_s is not None and facts.run_end.at_s > crossed_s + EPSILON_S:
        yield f"the run had cost its budget of {most} at {crossed_s}, and ended at {facts.run_end.at_s}"
