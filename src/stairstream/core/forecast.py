"""Foresees when the answering agent of a run can speak next, from the events of the run so far. Pure.

An answer that its policy holds back comes in bursts: a step writes what it may, and the next one begins when upstream
has reached its mark. How long that takes follows from the policy and from the rates seen in this run; `engine.pace`
spreads the words of a burst over that time.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stairstream.core.events import AgentEnded, Event, Noted, StepEnded, StepStarted, Thought, Wrote
from stairstream.core.policy import Policy, mark_of, quorum_of

WINDOW_S = 4.0
"""A rate is that of the last seconds: long enough to average deltas of many tokens, short enough to follow a change."""

POINTS = 16
"""The number of times in a window at which the number of tokens is remembered."""

CAUTION = 1.1
"""Times are foreseen a little late: words that are left over are spoken after the next step has begun to write, words
that are missing are a silence."""

HURRY = 1.5
"""How much faster than it is written an answer that nothing holds back any more is shown, while words are queued."""

DRAIN_SHARE = 0.01
"""When everything is written, what is queued is shown within this share of the time that the run has taken."""

LATE_S = 0.3
"""The time over which the queued words are spread when the next step is late: it may begin at any moment."""

SLOWEST_S = 1.0
"""The longest time between two tokens while words are queued: an upstream that stands still does not stop the answer"""


@dataclass(slots=True)
class _Flow:
    """The progress of one agent, and its rate of late."""

    num_tokens: int = 0
    has_ended: bool = False
    points: deque[tuple[float, int]] = field(default_factory=deque)
    """Times, and the number of tokens then, at most `WINDOW_S` old but for the first."""

    def add(self, at_s: float, num_tokens: int) -> None:
        self.num_tokens += num_tokens
        if not self.points or at_s - self.points[-1][0] >= WINDOW_S / POINTS:
            self.points.append((at_s, self.num_tokens))
            while len(self.points) > 2 and self.points[1][0] < at_s - WINDOW_S:
                self.points.popleft()

    def tokens_per_s(self, now: float) -> float:
        """The rate of late; 0 if it is not known yet."""
        if not self.points or now <= self.points[0][0]:
            return 0.0
        at_s, num_tokens = self.points[0]
        return (self.num_tokens - num_tokens) / (now - at_s)

    def reaches_in_s(self, mark: float, now: float) -> float:
        """Seconds until it has written `mark` tokens or has ended, as far as that can be foreseen; else infinite."""
        if self.has_ended or self.num_tokens >= mark:
            return 0.0
        rate = self.tokens_per_s(now)
        return (mark - self.num_tokens) / rate if rate > 0 else math.inf


@dataclass(slots=True)
class _Calls:
    """How long calls were silent before their first word, by the tokens that were read by then."""

    seen: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=2))
    """Tokens read, and seconds, of the last two calls that have spoken."""

    def latency_s(self, num_read: float) -> float:
        """Foreseen for a call that reads so many: as the last one, and what grew with the length in the last two."""
        if not self.seen:
            return 0.0
        read, last_s = self.seen[-1]
        if len(self.seen) < 2:
            return last_s
        read_before, before_s = self.seen[0]
        if read <= read_before:
            return last_s
        per_token_s = max(0.0, (last_s - before_s) / (read - read_before))
        return last_s + per_token_s * max(0.0, num_read - read)


class Forecast:
    """The next time at which an agent can speak, by what `see` was shown."""

    def __init__(self, policy: Policy, agent: str, upstream: Sequence[str]) -> None:
        """`upstream` are the agents that it reads."""
        self._policy = policy
        self._agent = agent
        self._upstream: Mapping[str, _Flow] = {name: _Flow() for name in upstream}
        self._own = _Flow()
        self._calls = _Calls()
        self._step = -1
        self._limit = 0
        self._step_tokens = 0
        self._asked_s: float | None = None
        self._num_read = 0.0
        self._writing_s = 0.0
        self._in_speech = 0
        self._last_s = 0.0
        self._ends_read = 0
        self.latest_s = math.inf
        """When everything that is queued is to have been shown: known once it has all been written."""

    def see(self, event: Event) -> bool:
        """Take an event in; returns whether it may bring the next words nearer, so that queued ones should hurry."""
        match event:
            case Wrote() | Thought():
                if event.agent == self._agent:
                    return isinstance(event, Wrote) and self._write(event)
                if (flow := self._upstream.get(event.agent)) is not None and isinstance(event, Wrote):
                    flow.add(event.at_s, event.num_tokens)
            case StepStarted(agent=self._agent):
                self._step, self._limit, self._step_tokens, self._asked_s = event.step, event.limit, 0, event.at_s
                self._num_read = sum(flow.num_tokens for flow in self._upstream.values())
                self._ends_read = sum(reading.is_final for reading in event.readings)
                return True
            case StepEnded(agent=self._agent):
                self._asked_s = None
                self._limit = self._step_tokens
            case AgentEnded():
                if event.agent == self._agent:
                    self.latest_s = (1 + DRAIN_SHARE) * event.at_s
                    return True
                if (ended := self._upstream.get(event.agent)) is not None:
                    ended.has_ended = True
                    return True
            case Noted(agent=self._agent):
                return event.note.kind == "failover"
            case _:
                pass
        return False

    def interval_s(self, queued: int, now: float) -> float:
        """Seconds between two tokens that are shown, with so many queued, if nothing changes."""
        if self.latest_s < math.inf:
            return min(SLOWEST_S, max(0.0, self.latest_s - now) / max(1, queued))
        if self._is_free and self._asked_s is None:
            return min(SLOWEST_S, self._writing_interval_s / HURRY)
        time_s = max(LATE_S, CAUTION * self._next_words_in_s(now))
        return min(SLOWEST_S, time_s / max(1.0, queued + self._still_to_come(time_s)))

    def _still_to_come(self, time_s: float) -> float:
        """Tokens that the step in flight will have written by then."""
        if self._asked_s is not None:
            return 0
        left = max(0, self._limit - self._step_tokens)
        return min(left, time_s / self._writing_interval_s) if self._writing_interval_s else left

    def _write(self, event: Wrote) -> bool:
        is_first = self._asked_s is not None
        if self._asked_s is not None:
            self._calls.seen.append((self._num_read, event.at_s - self._asked_s))
            self._asked_s = None
        else:
            self._writing_s += event.at_s - self._last_s
            self._in_speech += event.num_tokens
        self._step_tokens += event.num_tokens
        self._own.num_tokens += event.num_tokens
        self._last_s = event.at_s
        return is_first

    @property
    def _is_free(self) -> bool:
        """Whether nothing holds the answer back: all that it reads has ended and was read in the last step."""
        return self._ends_read == len(self._upstream)

    @property
    def _writing_interval_s(self) -> float:
        """Seconds between two tokens within a step, as measured."""
        return self._writing_s / self._in_speech if self._in_speech else 0.0

    def _next_words_in_s(self, now: float) -> float:
        """Seconds until the next step can have written a word."""
        if self._asked_s is not None:
            return self._asked_s + self._calls.latency_s(self._num_read) - now
        mark = self._next_mark()
        times_s = sorted(flow.reaches_in_s(mark, now) for flow in self._upstream.values())
        known = [time_s for time_s in times_s if time_s < math.inf]
        if not known:
            return math.inf
        quorum = min(quorum_of(self._policy, len(times_s)), len(known))
        reach_s = min(known[-1], known[quorum - 1] + self._policy.patience_s)
        num_read = sum(flow.num_tokens + flow.tokens_per_s(now) * reach_s for flow in self._upstream.values())
        return reach_s + self._calls.latency_s(num_read)

    def _next_mark(self) -> float:
        """The tokens that upstream needs for the next step: its mark, and what lets it write a token more."""
        written = self._own.num_tokens + max(0, self._limit - self._step_tokens)
        raised = (written + 1 - self._policy.lead) / self._policy.slope
        return max(mark_of(self._policy, self._step + 1), raised)
