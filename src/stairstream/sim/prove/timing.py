"""Nothing before it is due and nothing later: each reading agent's run against the reference of the rules."""

from collections import deque
from collections.abc import Collection, Iterator

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

    A pace moves the events of the answer, and edges move what its reader sees: neither is followed here.
    """
    if facts.case.pace != "raw":
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
    """Events and entries in the order in which they happened."""
    merged: list[tuple[float, Event | Entry]] = []
    position, events = 0, facts.played.events
    for entry in facts.played.tape.entries:
        while position < entry.after:
            merged.append((events[position].at_s, events[position]))
            position += 1
        merged.append((entry.at_s, entry))
    merged += [(event.at_s, event) for event in events[position:]]
    return merged


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
        self._is_stopping = self._is_prefetching = self._must_stop = False
        self._must_end = self._is_blind = self._is_over = False
        self._is_held = self._has_failed = self._becomes_full = False
        self._before: Due | None = None
        self._due_s = -1.0
        models = (agent.model, *agent.fallbacks)
        self._prefetches = any(facts.case.models[model].prefetch_s is not None for model in models)
        self._own = ""
        self._step_size = 0
        self._step_limit = self._tokens_left = 0
        self._ended: Ended | None = None

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
                if self._early is not None:
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
        elif self._must_end:
            self._found.append(f"{name} did not end at {self._now}, when its answer had")
        elif self._must_stop and not self._is_stopping:
            self._found.append(f"{name} was not stopped at {self._now}, when its prefetch had ended")
        elif not (self._is_stopping or self._is_prefetching) and (due := self._due(is_over=True)) is not None:
            self._found.append(f"{name} did nothing at {self._now}, where {_say(due)} was due")

    def _move_to(self, at_s: float) -> None:
        rules = self._rules
        while not self._found and (moment := rules.next_s(self._now)) < at_s - EPSILON_S:
            self._now = moment
            if not (self._is_stopping or self._is_prefetching) and (due := self._due(is_over=True)) is not None:
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
        rules = self._rules
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
                self._ended = ended
            case "stop", _ if not self._is_cut:
                if not self._must_stop and self._due() is None:
                    self._unjustified = "was stopped"
                self._is_stopping, self._must_stop = True, False
            case "prefetch", _:
                # heard of a moment later: the step may have come further by then, or have ended
                if rules.in_step and self._due_s < self._now and self._due() is None:
                    self._unjustified = "prefetched"
                self._is_prefetching = rules.in_step
            case "prefetched", is_done:
                self._is_prefetching, self._must_stop = False, rules.in_step
                self._is_held = bool(is_done)
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
        self._step_limit, self._tokens_left = step.limit, self._agent.sampling.max_tokens - rules.written
        self._step_size = len(self._own)
        rules.is_full = rules.is_full or self._becomes_full
        rules.begin_step(self._now, step.limit)
        self._is_stopping = self._is_prefetching = self._must_stop = self._has_failed = self._is_held = False
        self._ended, self._before = None, None

    def _read(self, step: StepStarted) -> None:
        """Everything that is there is read in one go, unless it was held for a prefetch, or the context is full."""
        for reading in step.readings:
            one, facts = self._upstream[reading.agent], self._facts.agents[reading.agent]
            index = facts.shown_sizes.index(reading.end) if reading.end else -1
            tokens = facts.shown_tokens[index] if reading.end else 0
            if tokens != one.written and not self._is_held and not self._becomes_full:
                self._found.append(
                    f"{self._agent.name} read {tokens} of {one.written} tokens of {one.name} in step {step.step}"
                )
            one.read, one.end_is_read = tokens, reading.is_final

    def _end(self, step: StepEnded) -> None:
        rules, ended = self._rules, self._ended
        if step.reason == "cancelled":
            return
        if step.reason == "failed" or ended is None:
            rules.is_looking, self._has_failed = False, True
            self._must_end = True
            return
        size = len(self._own) - self._step_size
        least = self._step_limit if step.reason == "limit" else 0
        rules.written += _believed(rules.step_written, ended.num_tokens, size, least) - rules.step_written
        rules.end_step(self._now, by_model=step.reason == "stop")
        self._is_stopping = self._is_prefetching = False
        self._must_end = step.reason in _ENDS_AT_ONCE
        if step.reason == "limit" and self._step_limit >= self._tokens_left:
            self._must_end = True
        if self._must_end:
            rules.is_looking = False

    def _take_note(self, noted: Noted) -> None:
        rules = self._rules
        if noted.note.kind == "full":
            self._becomes_full = True  # before a step that reads, or in place of reading
        elif noted.note.kind == "failover":
            self._is_blind = self._agent.context_tokens is not None  # a second time it is not said that it is full
            rules.hand_over(is_undone=self._has_failed or rules.step_written == 0)
            self._must_end = self._has_failed = False
            self._is_held = self._is_prefetching = self._must_stop = False

    def _end_agent(self, end: AgentEnded) -> None:
        self._is_over = True
        if end.reason not in ("stop", "length") or self._must_end:
            return
        due = self._due() or self._before
        if self._is_cut or any(note.note.kind == "unread" for note in self._facts.agents[end.agent].notes):
            return
        if due is None or due.kind != end.reason:
            said = "nothing" if due is None else _say(due)
            self._found.append(f"{self._agent.name} ended by {end.reason} at {self._now}, where {said} was due")


def _believed(ours: int, theirs: int | None, size: int, least: int) -> int:
    """The endpoint's count where it can be true of so many characters, else ours."""
    if theirs is None or size > _LONGEST_TOKEN * theirs or theirs > max(ours, size):
        return max(ours, least)
    return theirs


def _say(due: Due) -> str:
    return f"a step of {due.limit} tokens" if due.kind == "write" else f"an end by {due.kind}"
