"""Nothing before it is due and nothing later: each reading agent's run against the reference of the rules."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from stairstream.core.events import AgentEnded, Event, Noted, StepEnded, StepStarted, Thought, Wrote
from stairstream.core.graph import Agent
from stairstream.core.session import Began, Delta, Ended
from stairstream.sim.prove.facts import Facts
from stairstream.sim.prove.rules import EPSILON_S, Due, Rules, Upstream
from stairstream.sim.prove.tape import Entry

_LONGEST_TOKEN = 20
_MOST_ORDERS = 300
_ENDS_AT_ONCE = ("length", "content_filter", "tool_calls", "stop_string")


def check_timing(facts: Facts) -> Iterator[str]:
    """Steps, stops and ends of every agent that reads by tokens.

    Edges move what their reader sees, which is not followed here. A pace only moves words that nobody reads. Where
    rates are known before, calls are made later, or not at all.
    """
    if facts.case.knows_rates:
        return
    merged = _merge(facts)
    for one in facts.agents.values():
        if one.agent.reads and one.agent.edges == "token":
            found = _Walk(facts, one.agent).problems(merged)
            if found and not _is_right_in_some_order(facts, one.agent, merged):
                yield found[0]


def _is_right_in_some_order(facts: Facts, agent: Agent, merged: list[tuple[float, Event | Entry]]) -> bool:
    """Whether there is nothing wrong with a run if its ties come out in one way or another."""
    orders = deque[tuple[int, ...]]([()])
    for _ in range(_MOST_ORDERS):
        if not orders:
            break
        early = orders.popleft()
        walk = _Walk(facts, agent, early)
        if not walk.problems(merged):
            return True
        # which ties there are depends on how those before them came out
        orders.extend((*early, tie) for tie in range(early[-1] + 1 if early else 0, walk.num_ties))
    return False


def _merge(facts: Facts) -> list[tuple[float, Event | Entry]]:
    """Events and entries in the order in which they happened, but for words of the answer: nobody reads them."""
    merged: list[tuple[float, Event | Entry]] = []
    position, events = 0, facts.played.events
    for entry in facts.played.tape.entries:
        merged += [(event.at_s, event) for event in events[position : entry.after]]
        merged.append((entry.at_s, entry))
        position = entry.after
    merged += [(event.at_s, event) for event in events[position:]]
    answer = facts.case.graph.answer
    return [one for one in merged if not (isinstance(one[1], Wrote | Thought) and one[1].agent == answer)]


@dataclass(slots=True)
class _Step:
    """All that is known of the agent's own step: how far its text was and what was allowed before it, and its end."""

    size_before: int = 0
    limit: int = 0
    tokens_left: int = 0
    ended: Ended | None = None
    has_failed: bool = False
    must_end: bool = False
    """Whether the answer has ended with it."""

    def tokens(self, ours: int, size: int, reason: str) -> int:
        """Its tokens: the endpoint's count where it can be true of text up to `size` characters, else ours."""
        theirs, size = None if self.ended is None else self.ended.num_tokens, size - self.size_before
        if theirs is None or size > _LONGEST_TOKEN * theirs or theirs > max(ours, size):
            return max(ours, self.limit if reason == "limit" else 0)
        return theirs


@dataclass(slots=True)
class _Interruption:
    """The interruption of its step: a stop, or a prefetch, after which it must stop and read what is held."""

    is_stopping: bool = False
    is_prefetching: bool = False
    must_stop: bool = False
    is_held: bool = False

    @property
    def is_under_way(self) -> bool:
        """Whether something that was due has begun."""
        return self.is_stopping or self.is_prefetching


class _Walk:
    """One agent's run, instant by instant; with `early`, ties too are looked at within instants (see Rules)."""

    def __init__(self, facts: Facts, agent: Agent, early: Collection[int] | None = None) -> None:
        self._facts = facts
        self._agent = agent
        self._upstream = {name: Upstream(name) for name in agent.reads}
        self._early = early
        self._rules = Rules(agent, list(self._upstream.values()), early or ())
        self._now = 0.0
        self._found: list[str] = []
        self._unjustified: str | None = None
        self._step = _Step()
        self._interruption = _Interruption()
        self._is_blind = self._is_over = self._becomes_full = False
        self._before: Due | None = None
        self._due_s = -1.0
        models = (agent.model, *agent.fallbacks)
        self._prefetches = any(facts.case.models[model].prefetch_s is not None for model in models)
        self._own = ""

    @property
    def num_ties(self) -> int:
        """Ties that were met."""
        return len(self._rules.ties)

    def problems(self, merged: list[tuple[float, Event | Entry]]) -> list[str]:
        """The first thing that came too early or too late."""
        names = {self._agent.name, *self._agent.reads}
        for at_s, what in merged:
            if getattr(what, "agent", None) not in names:
                continue
            if self._found or self._is_over or self._is_blind:
                break
            if at_s > self._now + EPSILON_S:
                self._end_instant()
                self._move_to(at_s)
            if what.agent == self._agent.name:  # type: ignore[union-attr]
                self._take_own(what)
            else:
                self._take_upstream(what)
            if self._early is not None:  # a silent upstream may also leave as it begins to look
                self._rules.pass_time(self._now, is_over=False)
            if self._is_in_doubt and self._due() is not None:
                self._unjustified, self._due_s = None, self._now
        else:
            if not self._is_over:
                self._end_instant()
        return self._found

    @property
    def _is_in_doubt(self) -> bool:
        """Whether something was, or may yet be heard to have been, due at any time in this instant."""
        return self._unjustified is not None or (self._prefetches and self._rules.in_step)

    # Time

    def _due(self, *, is_over: bool = False) -> Due | None:
        self._rules.pass_time(self._now, is_over=is_over)
        return self._rules.due(self._now)

    def _end_instant(self) -> None:
        """Everything that is due by now has been done."""
        name, self._rules.is_full = self._agent.name, self._rules.is_full or self._becomes_full
        if self._unjustified is not None:
            self._found.append(f"{name} {self._unjustified} at {self._now}, where nothing was due")
        elif self._step.must_end:
            self._found.append(f"{name} did not end at {self._now}, when its answer had")
        elif self._interruption.must_stop and not self._interruption.is_stopping:
            self._found.append(f"{name} was not stopped at {self._now}, when its prefetch had ended")
        elif not self._interruption.is_under_way and (due := self._due(is_over=True)) is not None:
            self._found.append(f"{name} did nothing at {self._now}, where {_say(due)} was due")

    def _move_to(self, at_s: float) -> None:
        rules = self._rules
        while not self._found and (moment := rules.next_s(self._now)) < at_s - EPSILON_S:
            self._now = moment
            if not self._interruption.is_under_way and (due := self._due(is_over=True)) is not None:
                self._found.append(f"{self._agent.name} did nothing at {moment}, where {_say(due)} was due")
        self._now = at_s
        rules.pass_time(at_s, is_over=False)
        self._before = None
        if rules.is_looking and not rules.in_step:
            self._before = rules.due(at_s)

    # Upstream

    def _take_upstream(self, what: Event | Entry) -> None:
        one = self._upstream[what.agent]  # type: ignore[union-attr]
        forward = self._facts.agents[one.name].agent.forward
        match what:
            case Wrote():
                if forward != "thinking":
                    one.written += what.num_tokens
                    one.is_thinking = False
            case Thought():
                if forward != "answer":
                    one.written += what.num_tokens
                    one.heard_s = self._now
                elif not one.is_thinking:
                    one.heard_s = self._now
                    one.is_thinking = one.written == 0 and not one.has_ended
            case StepStarted():
                one.heard_s = self._now
            case StepEnded():
                one.heard_s = float("inf")
            case AgentEnded():
                one.has_ended, one.is_thinking = True, False
            case Entry(mark="item", value=Delta(is_thinking=False)):
                one.heard_s = self._now
            case _:
                pass

    # Its own

    def _take_own(self, what: Event | Entry) -> None:
        match what:
            case Entry():
                self._take_entry(what)
            case StepStarted():
                self._begin(what)
            case StepEnded():
                self._end(what)
            case Noted():
                self._take_note(what)
            case AgentEnded():
                self._end_agent(what)
            case _:
                pass

    def _take_entry(self, entry: Entry) -> None:
        rules, interruption = self._rules, self._interruption
        match entry.mark, entry.value:
            case "opened", _:
                rules.is_looking = True
            case "item", Began():
                rules.is_looking = rules.in_step
            case "item", Delta(is_thinking=False) as delta:
                if rules.in_step and not self._is_cut:
                    self._own += delta.text
                    rules.step_written += delta.num_tokens
                    rules.written += delta.num_tokens
            case "item", Ended() as ended:
                self._step.ended = ended
            case "stop", _ if not self._is_cut:
                if not interruption.must_stop and self._due() is None:
                    self._unjustified = "was stopped"
                interruption.is_stopping, interruption.must_stop = True, False
            case "prefetch", _:
                # heard of a moment later: the step may have come further by then, or have ended
                if rules.in_step and self._due_s < self._now and self._due() is None:
                    self._unjustified = "prefetched"
                interruption.is_prefetching = rules.in_step
            case "prefetched", is_done:
                interruption.is_prefetching, interruption.must_stop = False, rules.in_step
                interruption.is_held = bool(is_done)
            case _:
                pass

    @property
    def _is_cut(self) -> bool:
        """Whether a stop string has ended its answer."""
        return any(stop in self._own for stop in self._agent.sampling.stop)

    def _begin(self, step: StepStarted) -> None:
        rules = self._rules
        if self._becomes_full and not step.readings:
            rules.is_full = True
        due = self._due()
        if due is None or due.kind != "write":
            due = self._before if self._before is not None and self._before.kind == "write" else due
        if due is None or due.kind != "write":
            said = "nothing" if due is None else _say(due)
            self._found.append(f"{self._agent.name} began step {step.step} at {self._now}, where {said} was due")
            return
        if due.limit != step.limit:
            self._found.append(f"{self._agent.name} may write {step.limit} tokens in step {step.step}, not {due.limit}")
        if due.reads != bool(step.readings):
            self._found.append(f"{self._agent.name} reads {len(step.readings)} in step {step.step} at {self._now}")
        self._read(step)
        self._step = _Step(len(self._own), step.limit, self._agent.sampling.max_tokens - rules.written)
        self._interruption = _Interruption()
        rules.is_full = rules.is_full or self._becomes_full
        rules.begin_step(self._now, step.limit)
        self._before = None

    def _read(self, step: StepStarted) -> None:
        """Everything that is there is read in one go, unless it was held for a prefetch, or the context is full."""
        for reading in step.readings:
            one, facts = self._upstream[reading.agent], self._facts.agents[reading.agent]
            index = facts.shown_sizes.index(reading.end) if reading.end else -1
            tokens = facts.shown_tokens[index] if reading.end else 0
            if tokens != one.written and not self._interruption.is_held and not self._becomes_full:
                self._found.append(
                    f"{self._agent.name} read {tokens} of {one.written} tokens of {one.name} in step {step.step}"
                )
            one.read, one.end_is_read = tokens, reading.is_final

    def _end(self, step: StepEnded) -> None:
        rules, own = self._rules, self._step
        if step.reason == "cancelled":
            return
        if step.reason == "failed" or own.ended is None:
            rules.is_looking, own.has_failed = False, True
            own.must_end = True
            return
        rules.written += own.tokens(rules.step_written, len(self._own), step.reason) - rules.step_written
        rules.end_step(self._now, by_model=step.reason == "stop")
        self._interruption.is_stopping = self._interruption.is_prefetching = False
        own.must_end = step.reason in _ENDS_AT_ONCE or (step.reason == "limit" and own.limit >= own.tokens_left)
        if own.must_end:
            rules.is_looking = False

    def _take_note(self, noted: Noted) -> None:
        rules = self._rules
        if noted.note.kind == "full":
            self._becomes_full = True  # before a step that reads, or in place of reading
        elif noted.note.kind == "failover":
            self._is_blind = self._agent.context_tokens is not None  # a second time it is not said that it is full
            rules.hand_over(is_undone=self._step.has_failed or rules.step_written == 0)
            self._step.must_end = self._step.has_failed = False
            self._interruption = _Interruption(is_stopping=self._interruption.is_stopping)

    def _end_agent(self, end: AgentEnded) -> None:
        self._is_over = True
        if end.reason not in ("stop", "length") or self._step.must_end:
            return
        self._rules.is_full = self._rules.is_full or self._becomes_full
        due = self._due() or self._before
        if self._is_cut or any(note.note.kind == "unread" for note in self._facts.agents[end.agent].notes):
            return
        if due is None or due.kind != end.reason:
            said = "nothing" if due is None else _say(due)
            self._found.append(f"{self._agent.name} ended by {end.reason} at {self._now}, where {said} was due")


def _say(due: Due) -> str:
    return f"a step of {due.limit} tokens" if due.kind == "write" else f"an end by {due.kind}"
