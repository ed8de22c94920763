"""Runs that arrive at a fleet of replicas: each replays a schedule, its calls are routed, and its times are noted."""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile

from stairstream.plan.arrivals import Arrivals, Closed, times_s
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.fleet.replicas import Job, Replica, Size, Used
from stairstream.plan.fleet.schedules import Call, Schedule

WARM_SHARE = 0.25
"""Runs that arrive in this first share of the time, and in the last one, fill and drain the fleet: no time counts."""

LONGEST_DRAIN = 3
"""So many times the time of arrivals runs may still take after it; those that take longer count as never ended."""


def window_of(duration_s: float) -> tuple[float, float]:
    """From when to when arrivals count, and use of replicas."""
    return WARM_SHARE * duration_s, (1 - WARM_SHARE) * duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Replicas by model, all of one size. With `affinity` an agent's calls go to the replica that had its last one,
    unless all its slots are taken; without, as the first ones do, to the one with the fewest calls."""

    replicas: Mapping[str, int]
    size: Size
    affinity: bool = True


@dataclass(slots=True, kw_only=True)
class RunTimes:
    """One run: when it arrived, had its first token, and ended."""

    at_s: float
    first_token_s: float | None = None
    total_s: float | None = None


@dataclass(slots=True, kw_only=True)
class _Run:
    """A run that is replayed: each agent's calls that have not begun, its tokens, and the replica of its last call."""

    number: int
    answer: str
    times: RunTimes
    waiting: dict[str, deque[Call]]
    on_end: Callable[[float], None]
    tokens: dict[str, int]
    calling: set[str] = field(default_factory=set)
    homes: dict[str, Replica] = field(default_factory=dict)


class Replay:
    """The simulation; `play` runs it, then `runs` and `used` (by model, of the window) say what happened."""

    def __init__(
        self, fleet: Fleet, costs: Mapping[str, EndpointCosts], schedules: Sequence[Schedule], rng: random.Random
    ) -> None:
        self.runs: list[RunTimes] = []
        self.used: Mapping[str, Sequence[Used]] = {}
        self._fleet = fleet
        self._schedules = schedules
        self._rng = rng
        self._replicas = {
            model: [Replica(costs[model], fleet.size) for _ in range(number)]
            for model, number in fleet.replicas.items()
        }
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._serial = count()
        self._changes: Counter[Replica] = Counter()

    def _use_until(self, now_s: float) -> dict[str, list[Used]]:
        return {model: [one.use_until(now_s) for one in replicas] for model, replicas in self._replicas.items()}

    def play(self, arrivals: Arrivals, duration_s: float) -> None:
        """Runs arrive for this long; it ends with the last of them, or when the fleet is hopelessly late."""
        if isinstance(arrivals, Closed):
            for _ in range(arrivals.users):  # not all at once
                self._at(self._rng.uniform(0, duration_s * WARM_SHARE / 2), self._user(arrivals.think_s, duration_s))
        else:
            for at_s in takewhile(lambda at_s: at_s < duration_s, times_s(arrivals, self._rng)):
                self._at(at_s, lambda now_s: self._arrive(now_s, lambda _: None))
        begin_s, end_s = window_of(duration_s)
        self._play_until(begin_s)
        before = self._use_until(begin_s)
        self._play_until(end_s)
        after = self._use_until(end_s)
        self.used = {
            model: [later.since(earlier) for earlier, later in zip(before[model], after[model], strict=True)]
            for model in before
        }
        self._play_until(duration_s + LONGEST_DRAIN * duration_s)

    def _play_until(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            now_s, _, act = heapq.heappop(self._events)
            act(now_s)

    def _at(self, at_s: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._serial), act))

    def _user(self, think_s: float, until_s: float) -> Callable[[float], None]:
        """Starts a run, and another one after each end, until the time is up."""

        def begin(now_s: float) -> None:
            if now_s < until_s:
                self._arrive(now_s, lambda end_s: self._at(end_s + think_s, begin))

        return begin

    def _arrive(self, now_s: float, on_end: Callable[[float], None]) -> None:
        schedule = self._rng.choice(self._schedules)
        waiting: dict[str, deque[Call]] = {}
        for call in schedule.calls:
            waiting.setdefault(call.agent, deque()).append(call)
        run = _Run(
            number=len(self.runs),
            answer=schedule.answer,
            times=RunTimes(at_s=now_s),
            waiting=waiting,
            on_end=on_end,
            tokens=dict.fromkeys(waiting, 0),
        )
        self.runs.append(run.times)
        self._start_ready(run, now_s)

    def _start_ready(self, run: _Run, now_s: float) -> None:
        """Start each agent's next call, if its last one has ended and it can read what it needs."""
        for agent, calls in run.waiting.items():
            if calls and agent not in run.calling and _is_ready(calls[0], run):
                self._call(run, calls.popleft(), now_s)

    def _call(self, run: _Run, call: Call, now_s: float) -> None:
        run.calling.add(call.agent)
        before = run.tokens[call.agent]

        def on_mark(at_s: float, tokens: int) -> None:
            run.tokens[call.agent] = before + tokens
            self._note(run, call, tokens, at_s)
            self._start_ready(run, at_s)

        replica = run.homes[call.agent] = self._route(run, call)
        job = Job(
            key=(run.number, call.agent),
            prompt_tokens=call.prompt_tokens,
            shared_tokens=call.shared_tokens,
            tokens=call.tokens,
            marks=deque(call.marks),
            on_mark=on_mark,
        )
        replica.submit(job, now_s)
        self._watch(replica)

    def _note(self, run: _Run, call: Call, tokens: int, at_s: float) -> None:
        if call.agent == run.answer and tokens and run.times.first_token_s is None:
            run.times.first_token_s = at_s - run.times.at_s
        if tokens == call.marks[-1]:
            run.calling.discard(call.agent)
            if call.agent == run.answer and not run.waiting[run.answer]:
                run.times.total_s = at_s - run.times.at_s
                run.on_end(at_s)

    def _route(self, run: _Run, call: Call) -> Replica:
        home = run.homes.get(call.agent)
        if self._fleet.affinity and home is not None and home.load < self._fleet.size.slots:
            return home
        return min(self._replicas[call.model], key=lambda one: (one.load, self._rng.random()))

    def _watch(self, replica: Replica) -> None:
        """Come back when something happens on this replica; an earlier plan of it is void."""
        self._changes[replica] += 1
        change, at_s = self._changes[replica], replica.next_s()
        if at_s is None:
            return

        def act(now_s: float) -> None:
            if self._changes[replica] == change:
                replica.advance(now_s)
                self._watch(replica)

        self._at(at_s, act)


def _is_ready(call: Call, run: _Run) -> bool:
    return all(run.tokens[name] >= tokens for name, tokens in call.needs.items())
