"""Decides what an agent does next: pure functions of its policy, the progress of everyone, and the time.

The engine, the simulator and the tests share them. `decide` says wait until / write up to n / finish, and what has to
be remembered from one look to the next.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from stairstream.core.policy import Policy, chunk_of, mark_of, quorum_of

SILENCE_S = 1.0
SILENCE_FACTOR = 2.0
"""An upstream is silent once nothing has come of it for 1 s + patience_s + twice what the first one needed to the first
mark: an agent that is only a little slower than the quickest never is (docs/policies.md has what it costs)."""


@dataclass(slots=True)
class Upstream:
    """Progress of one upstream agent, and the part of it that has been read, in its tokens; its reader keeps it true.

    `is_thinking`: it has only had thoughts so far that are not forwarded. `silent_since`: when its last token came, its
    first thought, or its call began; infinite while it is not asked for anything, as it waits for its own upstream.
    """

    num_written: int
    num_read: int
    has_ended: bool
    end_is_read: bool
    is_thinking: bool = False
    silent_since: float = math.inf

    @property
    def is_unread(self) -> bool:
        """Whether it has text that was not read yet."""
        return self.num_written > self.num_read


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """The agent's own progress, and what it remembers of its upstream; times are seconds since the run began.

    `steps` counts the steps begun so far. `model_ended_at` is when its model last ended by itself, None if it did
    not; `is_confirmed` says that it ended in an update that added no word; `waited_s` is the patience spent after
    earlier ends. With `is_full` its context has no room for more to read. `limit` is the most that it was ever allowed
    to write. `decide` keeps the rest: `quorum_since`, when the next step was first due but for patience; `first_s`,
    when the first upstream had reached the first mark or had ended with text; `left`, the upstreams, by their index,
    that do not count for now. `asked_s` is when the step in flight began. `worth.weigh` says `held_until`, the time
    until which the next step is not made before the end of upstream, and `spared_until`, the time until which the first
    call is let speak though upstream has ended.
    """

    max_tokens: int
    steps: int = 0
    num_written: int = 0
    step_written: int = 0
    is_writing: bool = False
    model_ended_at: float | None = None
    is_confirmed: bool = False
    waited_s: float = 0.0
    is_full: bool = False
    limit: float = 0.0
    quorum_since: float | None = None
    first_s: float | None = None
    left: frozenset[int] = frozenset()
    asked_s: float = 0.0
    held_until: float | None = None
    spared_until: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do before `until`, unless upstream changes first.

    `mark` is the number of tokens at which an upstream's text is worth reading, `raised_mark` the one at which the
    agent's limit lets it write again, where that is all it waits for; `own_tokens` the number of tokens of this step at
    which a step in flight should be looked at again. `num_wakes` upstreams must get as far as `wakes_at` says, or end,
    before the decision can change, of those that have `left` each one; but from `leaves_at` on, when an upstream may
    leave, each counts. One whose call begins from now on leaves `silence_s` later, one that begins to think
    `thinking_s`. With `has_news`, as after any wake, the time at which one leaves is a time to look again.
    """

    until: float = math.inf
    mark: float = math.inf
    raised_mark: float = math.inf
    own_tokens: float = math.inf
    num_wakes: int = 1
    left: frozenset[int] = frozenset()
    leaves_at: float = math.inf
    silence_s: float = math.inf
    thinking_s: float = math.inf
    has_news: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Read everything that is there (unless not `reads`), then write up to `limit` tokens."""

    limit: int
    reads: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The agent's own end: `stop` (its model is done) or `length` (its own limit)."""

    reason: Literal["stop", "length"]


Decision = Wait | Write | Finish


def decide(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> tuple[Own, Decision]:
    """Decides what an agent does next; returns `own` with what it has to remember of this moment, and the decision.

    The same rules serve between steps and beside a step in flight. While `own.is_writing`, Write means: end the step
    and update. With every upstream ended and read and no step in flight it never says Wait.
    """
    own, tally = _observe(policy, upstream, own, now)
    return own, _decide(policy, upstream, own, tally, now)


def _observe(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> "tuple[Own, _Tally]":
    """Keeps what has to be remembered. An upstream leaves only while there is something to read, as nobody waits for it
    before, and stays away until it reaches the mark or ends: a late first token alone does not bring it back."""
    if own.first_s is None and any(_sets_the_pace(policy, one) for one in upstream):
        own = replace(own, first_s=now)
    tally = _tally(policy, upstream, own)
    if own.left or (tally.has_news and now >= tally.leaves_at):
        left = _who_has_left(policy, upstream, own, now if tally.has_news else -math.inf)
        if left != own.left:
            own = replace(own, left=left)
            tally = _tally(policy, upstream, own)
    if not _is_due(policy, upstream, own, tally):
        # beside a step in flight, what was due once is due since then: its tokens may be counted too many
        keeps = own.quorum_since is None or own.is_writing
        return own if keeps else replace(own, quorum_since=None), tally
    return own if own.quorum_since is not None else replace(own, quorum_since=now), tally


def _decide(policy: Policy, upstream: Sequence[Upstream], own: Own, tally: "_Tally", now: float) -> Decision:
    if own.num_written >= own.max_tokens:
        return Finish(reason="length")
    if own.is_full or all(one.has_ended and one.end_is_read and not one.is_unread for one in upstream):
        return _go_on(own)
    if own.model_ended_at is not None and own.num_written:  # one that has said nothing is asked again
        return _after_own_end(policy, upstream, own, tally, now, own.model_ended_at)
    return _next_step(policy, upstream, own, tally, now)


def limit_of(policy: Policy, upstream: Sequence[Upstream], own: Own) -> float:
    """Tokens that the agent may have written in all, once it has read everything that is there; it never falls.

    lead + slope * the quorum-th largest number of tokens of a counted upstream; one that has ended counts as infinite.
    """
    counted = _counted(upstream, own)
    if not counted:
        return own.limit
    reach = sorted([math.inf if one.has_ended else one.num_written for one in counted], reverse=True)
    slowest = reach[min(quorum_of(policy, len(upstream)), len(counted)) - 1]
    # rounded, so that a mark that has been reached always lets a token through
    return min(own.max_tokens, max(own.limit, round(policy.lead + policy.slope * slowest, 6)))


def wakes_at(one: Upstream, wait: Wait, has_left: bool = False) -> float:
    """The number of tokens at which an upstream's progress can change a decision; its end always can."""
    if one.num_written < wait.mark and (has_left or wait.raised_mark == math.inf):
        return wait.mark
    if wait.raised_mark != math.inf:
        return wait.raised_mark if one.num_written < wait.raised_mark else math.inf
    return math.inf if one.num_written > one.num_read else one.num_written + 1


# Counted upstreams


def _sets_the_pace(policy: Policy, one: Upstream) -> bool:
    """Whether it is where others are waited for; one that failed before its first word says nothing about them."""
    return one.num_written > 0 and (one.has_ended or one.num_written >= policy.first_chunk)


def _who_has_left(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> frozenset[int]:
    """The upstreams that are not present at the next step's mark, and had left before or leave until `now`."""
    mark = mark_of(policy, own.steps)
    silence_s, thinking_s = _silence_s(policy, own.first_s), _thinking_s(policy)
    return frozenset(
        index
        for index, one in enumerate(upstream)
        if not (one.has_ended or one.num_written >= mark)
        and (index in own.left or now >= one.silent_since + (thinking_s if one.is_thinking else silence_s))
    )


def _silence_s(policy: Policy, first_s: float | None) -> float:
    """After how long an upstream that says nothing leaves the quorum; never where every end is waited for."""
    if policy.first_chunk == math.inf or first_s is None:
        return math.inf
    return SILENCE_S + policy.patience_s + SILENCE_FACTOR * first_s


def _thinking_s(policy: Policy) -> float:
    """The same for one that has only had thoughts."""
    return math.inf if policy.first_chunk == math.inf else policy.patience_s


def _counted(upstream: Sequence[Upstream], own: Own) -> Sequence[Upstream]:
    return [one for index, one in enumerate(upstream) if index not in own.left] if own.left else upstream


@dataclass(slots=True)
class _Tally:
    """Counts of all upstreams, taken in one pass. The quorum is at most the number counted.

    An upstream is *present* once it has reached the next step's mark or has ended, read or not. `num_missing` are
    counted and not present, `num_awaited` those of them that may soon be there: once they were waited for, only if they
    have moved since. `num_unread` are present with unread text, `num_unread_ends` those of them that have ended;
    `has_news`: there is such text, or an end that is not yet read. The first of the missing leaves at `leaves_at`.
    """

    mark: float
    quorum: int = 0
    num_present: int = 0
    num_missing: int = 0
    num_awaited: int = 0
    num_unread: int = 0
    num_unread_ends: int = 0
    num_open: int = 0
    has_news: bool = False
    leaves_at: float = math.inf


def _tally(policy: Policy, upstream: Sequence[Upstream], own: Own) -> _Tally:
    """All that are present count, also one that had left."""
    mark, left = mark_of(policy, own.steps), own.left
    missing = []
    present = unread = ended = unread_ends = 0
    has_news_of_end = False
    for index, one in enumerate(upstream):
        if one.has_ended:
            present += 1
            ended += 1
            if one.num_written > one.num_read:
                unread_ends += 1
            if not one.end_is_read:
                has_news_of_end = True
        elif one.num_written >= mark:
            present += 1
            if one.num_written > one.num_read:
                unread += 1
        elif index not in left:
            missing.append(one)
    silence_s, thinking_s = _silence_s(policy, own.first_s), _thinking_s(policy)
    return _Tally(
        mark=mark,
        quorum=min(quorum_of(policy, len(upstream)), present + len(missing)),
        num_present=present,
        num_missing=len(missing),
        num_awaited=sum([own.steps == 0 or one.num_written > one.num_read for one in missing]),
        num_unread=unread + unread_ends,
        num_unread_ends=unread_ends,
        num_open=len(upstream) - ended,
        has_news=has_news_of_end or unread + unread_ends > 0,
        leaves_at=min(
            [one.silent_since + (thinking_s if one.is_thinking else silence_s) for one in missing], default=math.inf
        ),
    )


# When a step is due


def _is_due(policy: Policy, upstream: Sequence[Upstream], own: Own, tally: _Tally) -> bool:
    """Whether the next step is due but for patience: the quorum is there, with something worth reading (unread text of
    one that is present, or news of an end), and the agent may write."""
    return 0 < tally.quorum <= tally.num_present and tally.has_news and _may_write(policy, upstream, own)


def _may_write(policy: Policy, upstream: Sequence[Upstream], own: Own) -> bool:
    return limit_of(policy, upstream, own) - own.num_written >= 1


def _next_step(policy: Policy, upstream: Sequence[Upstream], own: Own, tally: _Tally, now: float) -> Decision:
    if not _is_due(policy, upstream, own, tally):
        return _wait_until_due(policy, upstream, own, tally)
    patient_until = (now if own.quorum_since is None else own.quorum_since) + policy.patience_s
    if now < patient_until and tally.num_awaited:
        return _wait(policy, own, tally, until=patient_until, num_wakes=tally.num_awaited)
    if _is_held(upstream, own, now):
        return _wait(policy, own, tally, until=_held_until(own))
    if own.is_writing and (own.spared_until is not None or tally.num_open):
        return _let_speak(policy, upstream, own, tally, now)
    return _write(policy, upstream, own)


def _is_held(upstream: Sequence[Upstream], own: Own, now: float) -> bool:
    """Whether the step would gain nothing before the end of those that count."""
    return now < _held_until(own) and any(not one.has_ended for one in _counted(upstream, own))


def _held_until(own: Own) -> float:
    return -math.inf if own.held_until is None else own.held_until


def _let_speak(policy: Policy, upstream: Sequence[Upstream], own: Own, tally: _Tally, now: float) -> Decision:
    """Beside a step in flight: it writes its own chunk; one that is spared has begun to by then, or is cut."""
    least = chunk_of(policy, own.steps - 1)
    until = math.inf
    if own.spared_until is not None and not own.step_written:
        until = own.spared_until
    if now >= until or own.step_written >= least:
        return _write(policy, upstream, own)
    return _wait(policy, own, tally, until=until, own_tokens=least, num_wakes=max(1, tally.num_open))


def _after_own_end(
    policy: Policy, upstream: Sequence[Upstream], own: Own, tally: _Tally, now: float, model_ended_at: float
) -> Decision:
    """The model thinks that it is done: read what is worth reading and continue, or end.

    The final text of an upstream that has ended is always read; that it has ended, without more text, is no news.
    """
    if tally.num_unread_ends if own.is_confirmed else tally.num_unread:
        if _is_held(upstream, own, now):
            return _wait(policy, own, tally, until=_held_until(own))
        if _may_write(policy, upstream, own):
            return _write(policy, upstream, own)
        return _wait_for_limit(policy, upstream, own, tally)  # the model ended early
    until = model_ended_at + max(0.0, policy.patience_s - own.waited_s)
    if own.is_confirmed or not tally.num_awaited or now >= until:
        return Finish(reason="stop")
    return _wait(policy, own, tally, until=until)


def _go_on(own: Own) -> Decision:
    """Nothing (more) to read: write to the end."""
    if own.is_writing:
        return Wait()
    if own.model_ended_at is not None:
        return Finish(reason="stop")
    return Write(limit=own.max_tokens - own.num_written, reads=False)


def _write(policy: Policy, upstream: Sequence[Upstream], own: Own) -> Write:
    return Write(limit=int(limit_of(policy, upstream, own) - own.num_written))


# Waiting, and when to look again


def _wait_until_due(policy: Policy, upstream: Sequence[Upstream], own: Own, tally: _Tally) -> Wait:
    """A step is due once several things are true: until the first of them that is not, nothing else matters."""
    if tally.num_present < tally.quorum:
        return _wait(policy, own, tally, num_wakes=tally.quorum - tally.num_present)
    if not tally.has_news:
        return _wait(policy, own, tally)
    return _wait_for_limit(policy, upstream, own, tally)


def _wait_for_limit(policy: Policy, upstream: Sequence[Upstream], own: Own, tally: _Tally) -> Wait:
    """Until the limit lets the agent write: enough upstreams have as many tokens as that takes, or have ended."""
    mark = (own.num_written + 1 - policy.lead) / policy.slope
    enough = mark - 1e-6 / policy.slope  # the limit is rounded
    num_there = sum([one.has_ended or one.num_written >= enough for one in _counted(upstream, own)])
    return _wait(policy, own, tally, raised_mark=mark, num_wakes=max(1, tally.quorum - num_there))


def _wait(
    policy: Policy,
    own: Own,
    tally: _Tally,
    *,
    until: float = math.inf,
    raised_mark: float = math.inf,
    own_tokens: float = math.inf,
    num_wakes: int = 1,
) -> Wait:
    """Until upstream changes in a way that matters: at a mark, at an end, or because an upstream leaves.

    Before anyone has set the pace every change is to be seen, so that the time of the first one is right.
    """
    has_pace = own.first_s is not None
    mark = tally.mark
    if not has_pace:
        mark = min(mark, mark_of(policy, 0))
        raised_mark = min(raised_mark, mark) if raised_mark != math.inf else math.inf
    return Wait(
        until=min(until, tally.leaves_at) if tally.has_news else until,  # it waits for those that are missing
        mark=mark,
        raised_mark=raised_mark,
        own_tokens=own_tokens,
        num_wakes=num_wakes if has_pace else 1,
        left=own.left,
        leaves_at=tally.leaves_at if has_pace or not own.steps else -math.inf,
        silence_s=_silence_s(policy, own.first_s),
        thinking_s=_thinking_s(policy),
        has_news=tally.has_news,
    )
