"""The rules of docs/policies.md once more, slowly and from the page: a reference that shares no line with the engine.

Time is continuous here: a silence that lasts too long ends at that very moment, looked at or not.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from stairstream.core.graph import Agent
from stairstream.core.policy import Policy

TINY = 1e-6
NUM_STEADY = 40
"""Chunks that grow as the policy says; those after them at least double."""
EPSILON_S = 1e-7
"""Times that differ by less are the same instant: sums of seconds are rounded."""


@dataclass(slots=True)
class Upstream:
    """One agent that is read, as its reader can know it. `heard_s` is infinite while it is in no call."""

    name: str
    written: int = 0
    read: int = 0
    has_ended: bool = False
    end_is_read: bool = False
    is_thinking: bool = False
    heard_s: float = math.inf
    has_left: bool = False

    @property
    def is_unread(self) -> bool:
        """Whether there is text of it that was not read."""
        return self.written > self.read


@dataclass(frozen=True, slots=True)
class Due:
    """An action that is due: a write of so many tokens, or an end."""

    kind: Literal["write", "stop", "length"]
    limit: int = 0
    reads: bool = False


@dataclass(slots=True)
class OwnEnd:
    """When the model last ended by itself, None if it did not; `is_confirmed` if that was an update without a word.

    `waited_s` is the patience that was spent after earlier ends.
    """

    at_s: float | None = None
    is_confirmed: bool = False
    waited_s: float = 0.0

    def patient_until_s(self, patience_s: float) -> float:
        """Until when it is waited for more to read."""
        return math.inf if self.at_s is None else self.at_s + max(0.0, patience_s - self.waited_s)

    def resume(self, now: float) -> None:
        """The agent continues."""
        if self.at_s is not None:
            self.waited_s += now - self.at_s
        self.at_s, self.is_confirmed = None, False


@dataclass
class Rules:
    """One reading agent: its state by the page, and what is due in it.

    An upstream that may leave in an instant in which more happens is a *tie*: it leaves before that or after it, by
    which time it may have spoken. Ties are numbered as they come; those in `early` leave before.
    """

    agent: Agent
    upstream: list[Upstream]
    early: Collection[int] = ()
    steps: int = 0
    written: int = 0
    step_written: int = 0
    in_step: bool = False
    is_looking: bool = False
    own_end: OwnEnd = field(default_factory=OwnEnd)
    is_full: bool = False
    limit: float = 0.0
    due_since: float | None = None
    first_s: float | None = None
    policy: Policy = field(init=False)
    ties: dict[tuple[str, float], int] = field(default_factory=dict)
    _marks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policy = self.agent.policy
        if self.agent.one_call:  # it answers once its quorum has ended
            self._marks = [math.inf]

    # The six numbers

    @property
    def first_chunk(self) -> float:
        """Of an agent that makes one call: all."""
        return math.inf if self.agent.one_call else self.policy.first_chunk

    def chunk(self, k: int) -> float:
        """Tokens of chunk k: the one before it by growth, from the 40th on by 2 or more."""
        chunk, growth = self.first_chunk, float(self.policy.growth)
        for number in range(1, k + 1):
            chunk *= growth if number < NUM_STEADY else max(2.0, growth)
        return chunk

    def mark(self, k: int) -> float:
        """Tokens before step k: the chunks up to it, added up one by one."""
        if self.first_chunk == math.inf:
            return math.inf
        while len(self._marks) <= k:
            before = self._marks[-1] if self._marks else 0.0
            self._marks.append(before + self.chunk(len(self._marks)))
        return self._marks[k]

    @property
    def quorum(self) -> int:
        """How many must be there, at most as many as count."""
        number = len(self.upstream)
        match self.policy.quorum:
            case "all":
                wanted = number
            case "most":
                wanted = number if number < 3 else number - 1
            case int(wanted):
                pass
        return min(wanted, len(self.counted()))

    def counted(self) -> list[Upstream]:
        """Those that have not left."""
        return [one for one in self.upstream if not one.has_left]

    def is_present(self, one: Upstream) -> bool:
        """Whether it has reached the mark of the next step or has ended."""
        return one.has_ended or one.written >= self.mark(self.steps) - TINY

    def leaves_s(self, one: Upstream) -> float:
        """When it leaves if nothing comes of it."""
        if self.first_chunk == math.inf:
            return math.inf
        if one.is_thinking:
            return one.heard_s + self.policy.patience_s
        if self.first_s is None:
            return math.inf
        return one.heard_s + 1 + self.policy.patience_s + 2 * self.first_s

    def may_write(self) -> float:
        """Tokens that it may still write: lead + slope * read of the slowest counted, never less than before."""
        counted = self.counted()
        most = self.limit
        if counted:
            reach = sorted((math.inf if one.has_ended else one.written for one in counted), reverse=True)
            most = max(most, self.policy.lead + self.policy.slope * reach[self.quorum - 1])
        return min(most, self.agent.sampling.max_tokens) - self.written

    # Due

    def pass_time(self, now: float, *, is_over: bool = True) -> None:
        """Notes what the moment brings: who is first, who has left, since when a step has been due.

        `is_over`: nothing else happens in this instant.
        """
        if not self.is_looking:
            return
        if self.first_s is None and any(
            one.written > 0 and (one.has_ended or one.written >= self.first_chunk) for one in self.upstream
        ):
            self.first_s = now
        is_awaited = any(self._is_worth_reading(one) for one in self.upstream)
        for one in self.upstream:
            if self.is_present(one):
                one.has_left = False
            elif is_awaited and not one.has_left and now >= self.leaves_s(one) - EPSILON_S:
                one.has_left = is_over or self._is_early(one, now)
        if not self._is_due_but_for_patience():
            if not self.in_step:  # beside a step, what was due once is due since then
                self.due_since = None
        elif self.due_since is None:
            self.due_since = now

    def _is_early(self, one: Upstream, now: float) -> bool:
        return self.ties.setdefault((one.name, now), len(self.ties)) in self.early

    def _is_worth_reading(self, one: Upstream) -> bool:
        return (one.is_unread and self.is_present(one)) or (one.has_ended and not one.end_is_read)

    def _is_worth_waiting(self) -> bool:
        """Whether a counted one is missing that was not waited for yet, or has written since it was read."""
        return any(not self.is_present(one) and (self.steps == 0 or one.is_unread) for one in self.counted())

    def _is_due_but_for_patience(self) -> bool:
        counted = self.counted()
        return (
            bool(counted)
            and sum(self.is_present(one) for one in counted) >= self.quorum
            and any(self._is_worth_reading(one) for one in self.upstream)
            and self.may_write() >= 1 - TINY
        )

    @property
    def _has_all(self) -> bool:
        return all(one.has_ended and one.end_is_read and not one.is_unread for one in self.upstream)

    def due(self, now: float) -> Due | None:
        """The action that is due at this moment; None: to wait, or to continue its step."""
        if not self.is_looking:
            return None
        if self.written >= self.agent.sampling.max_tokens:
            return None if self.in_step else Due("length")
        if self.is_full or self._has_all:
            if self.in_step:
                return None
            if self.own_end.at_s is not None:
                return Due("stop")
            return Due("write", self.agent.sampling.max_tokens - self.written)
        if self.own_end.at_s is not None and self.written:
            return self._due_after_its_end(now)
        return self._due_step(now)

    def _due_step(self, now: float) -> Due | None:
        if self.due_since is None or not self._is_due_but_for_patience():
            return None
        if now < self.due_since + self.policy.patience_s - EPSILON_S and self._is_worth_waiting():
            return None
        if self.in_step and not all(one.has_ended for one in self.upstream):
            if self.step_written < self.chunk(self.steps - 1):
                return None
        return self._write()

    def _due_after_its_end(self, now: float) -> Due | None:
        unread = [one for one in self.upstream if one.is_unread and self.is_present(one)]
        if self.own_end.is_confirmed:
            unread = [one for one in unread if one.has_ended]
        if unread:
            return self._write() if self.may_write() >= 1 - TINY else None
        is_over = now >= self.own_end.patient_until_s(self.policy.patience_s) - EPSILON_S
        return Due("stop") if self.own_end.is_confirmed or is_over or not self._is_worth_waiting() else None

    def _write(self) -> Due:
        return Due("write", math.floor(self.may_write() + TINY), reads=True)

    def next_s(self, now: float) -> float:
        """The next moment after this one at which something may be due though nothing has happened."""
        times = [self.leaves_s(one) for one in self.upstream if not one.has_left and not self.is_present(one)]
        if self.due_since is not None:
            times.append(self.due_since + self.policy.patience_s)
        times.append(self.own_end.patient_until_s(self.policy.patience_s))
        return min((at_s for at_s in times if at_s > now + EPSILON_S), default=math.inf)

    # Happenings

    def begin_step(self, now: float, limit: int) -> None:
        """A step of up to so many tokens begins."""
        self.own_end.resume(now)
        self.limit = self.written + limit
        self.is_full = self.is_full or self.agent.one_call
        self.steps += 1
        self.step_written = 0
        self.in_step, self.is_looking, self.due_since = True, False, None

    def end_step(self, now: float, *, by_model: bool) -> None:
        """It is over; `by_model`: the model thinks that its answer is."""
        self.in_step, self.is_looking = False, True
        self.own_end.at_s = now if by_model else None
        self.own_end.is_confirmed = by_model and self.steps > 1 and self.step_written == 0

    def hand_over(self, *, is_undone: bool) -> None:
        """A fallback reads everything again, and makes the step that failed."""
        if is_undone:
            self.steps = max(0, self.steps - 1)
        for one in self.upstream:
            one.read, one.end_is_read = 0, False
        self.step_written = 0
        self.in_step, self.is_looking, self.is_full = False, False, False
        self.own_end.at_s, self.own_end.is_confirmed = None, False
