"""Decides what an agent does next: pure functions of its policy, the progress of everyone, and the time.

The engine, the simulator and the tests share them. `observe` keeps what has to be remembered from one look to the
next, `decide` says wait until / write up to n / finish.
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


@dataclass(frozen=True, slots=True)
class Upstream:
    """Progress of one upstream agent, and the part of it that has been read, in its tokens.

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
    to write. `observe` keeps the rest: `quorum_since`, when the next step was first due but for patience; `first_s`,
    when the first upstream had reached the first mark or had ended with text; `left`, the upstreams, by their index,
    that do not count for now.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do before `until`, unless upstream changes first.

    `mark` is the number of tokens at which an upstream's text is worth reading, `raised_mark` the one at which the
    agent's limit lets it write again; `own_tokens` the number of tokens of this step at which a step in flight should
    be looked at again.
    """

    until: float = math.inf
    mark: float = math.inf
    raised_mark: float = math.inf
    own_tokens: float = math.inf


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


def observe(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Own:
    """`own` with what has to be remembered of this moment; to be called before each `decide`.

    An upstream leaves only while there is something to read, as nobody waits for it before, and stays away until it
    reaches the mark or ends: a late first token alone does not bring it back.
    """
    first_s = own.first_s
    if first_s is None and any(_sets_the_pace(policy, one) for one in upstream):
        first_s = now
    own = replace(own, first_s=first_s)
    is_awaited = any(_is_worth_reading(policy, one, own) for one in upstream)
    left = frozenset(
        index
        for index, one in enumerate(upstream)
        if not _is_present(policy, one, own)
        and (index in own.left or (is_awaited and now >= _leaves_at(policy, one, own)))
    )
    own = replace(own, left=left)
    if not _is_due(policy, upstream, own):
        return replace(own, quorum_since=None)
    return own if own.quorum_since is not None else replace(own, quorum_since=now)


def decide(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Decision:
    """Decides what an agent does next; the same rules serve between steps and beside a step in flight.

    While `own.is_writing`, Write means: end the step and update. With every upstream ended and read and no step under
    way it never says Wait.
    """
    if own.num_written >= own.max_tokens:
        return Finish(reason="length")
    if own.is_full or all(one.has_ended and one.end_is_read and not one.is_unread for one in upstream):
        return _go_on(own)
    if own.model_ended_at is not None and own.num_written:  # one that has said nothing is asked again
        return _after_own_end(policy, upstream, own, now, own.model_ended_at)
    return _next_step(policy, upstream, own, now)


def limit_of(policy: Policy, upstream: Sequence[Upstream], own: Own) -> float:
    """Tokens that the agent may have written in all, once it has read everything that is there; it never falls.

    lead + slope * the quorum-th largest number of tokens of a counted upstream; one that has ended counts as infinite.
    """
    counted = _counted(upstream, own)
    if not counted:
        return own.limit
    reach = sorted((math.inf if one.has_ended else one.num_written for one in counted), reverse=True)
    slowest = reach[_quorum(policy, upstream, counted) - 1]
    # rounded, so that a mark that has been reached always lets a token through
    return min(own.max_tokens, max(own.limit, round(policy.lead + policy.slope * slowest, 6)))


def wakes_at(one: Upstream, wait: Wait) -> float:
    """The number of tokens at which an upstream's progress can change a decision; its end always can."""
    if one.num_written >= wait.mark and not one.is_unread:
        return one.num_written + 1
    return min((mark for mark in (wait.mark, wait.raised_mark) if mark > one.num_written), default=math.inf)


# Counted upstreams


def _sets_the_pace(policy: Policy, one: Upstream) -> bool:
    """Whether it is where others are waited for; one that failed before its first word says nothing about them."""
    return one.num_written > 0 and (one.has_ended or one.num_written >= policy.first_chunk)


def _is_present(policy: Policy, one: Upstream, own: Own) -> bool:
    """Whether it has reached the next step's mark or has ended, read or not."""
    return one.has_ended or one.num_written >= mark_of(policy, own.steps)


def _leaves_at(policy: Policy, one: Upstream, own: Own) -> float:
    """When an upstream that is not present leaves the quorum; never where every end is waited for."""
    if policy.first_chunk == math.inf:
        return math.inf
    if one.is_thinking:
        return one.silent_since + policy.patience_s
    if own.first_s is None:
        return math.inf
    return one.silent_since + SILENCE_S + policy.patience_s + SILENCE_FACTOR * own.first_s


def _counted(upstream: Sequence[Upstream], own: Own) -> Sequence[Upstream]:
    return [one for index, one in enumerate(upstream) if index not in own.left] if own.left else upstream


def _quorum(policy: Policy, upstream: Sequence[Upstream], counted: Sequence[Upstream]) -> int:
    return min(quorum_of(policy, len(upstream)), len(counted))


# When a step is due


def _is_due(policy: Policy, upstream: Sequence[Upstream], own: Own) -> bool:
    """Whether the next step is due but for patience: the quorum is there, with something worth reading, and the agent
    may write."""
    counted = _counted(upstream, own)
    present = sum(_is_present(policy, one, own) for one in counted)
    return (
        0 < _quorum(policy, upstream, counted) <= present
        and any(_is_worth_reading(policy, one, own) for one in upstream)
        and _may_write(policy, upstream, own)
    )


def _is_worth_reading(policy: Policy, one: Upstream, own: Own) -> bool:
    """Unread text of one that has reached the mark or has ended, or news of an end."""
    return (one.is_unread and _is_present(policy, one, own)) or (one.has_ended and not one.end_is_read)


def _is_worth_patience(policy: Policy, one: Upstream, own: Own) -> bool:
    """Whether an upstream that is missing may soon be there: once it was waited for, only if it has moved since."""
    return not _is_present(policy, one, own) and (own.steps == 0 or one.is_unread)


def _may_write(policy: Policy, upstream: Sequence[Upstream], own: Own) -> bool:
    return limit_of(policy, upstream, own) - own.num_written >= 1


def _next_step(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Decision:
    if not _is_due(policy, upstream, own):
        return _wait(policy, upstream, own)
    patient_until = (now if own.quorum_since is None else own.quorum_since) + policy.patience_s
    if now < patient_until and any(_is_worth_patience(policy, one, own) for one in _counted(upstream, own)):
        return _wait(policy, upstream, own, until=patient_until)
    if own.is_writing and not all(one.has_ended for one in upstream):
        least = chunk_of(policy, own.steps - 1)
        if own.step_written < least:
            return _wait(policy, upstream, own, own_tokens=least)
    return _write(policy, upstream, own)


def _after_own_end(
    policy: Policy, upstream: Sequence[Upstream], own: Own, now: float, model_ended_at: float
) -> Decision:
    """The model thinks that it is done: read what is worth reading and continue, or end.

    The final text of an upstream that has ended is always read; that it has ended, without more text, is no news.
    """
    unread = [one for one in upstream if one.is_unread and _is_present(policy, one, own)]
    if own.is_confirmed:
        unread = [one for one in unread if one.has_ended]
    if unread and _may_write(policy, upstream, own):
        return _write(policy, upstream, own)
    if unread:  # the model ended early, and the limit does not let it continue yet
        return _wait(policy, upstream, own)
    until = model_ended_at + max(0.0, policy.patience_s - own.waited_s)
    is_hopeful = any(_is_worth_patience(policy, one, own) for one in _counted(upstream, own))
    if own.is_confirmed or not is_hopeful or now >= until:
        return Finish(reason="stop")
    return _wait(policy, upstream, own, until=until)


def _go_on(own: Own) -> Decision:
    """Nothing (more) to read: write to the end."""
    if own.is_writing:
        return Wait()
    if own.model_ended_at is not None:
        return Finish(reason="stop")
    return Write(limit=own.max_tokens - own.num_written, reads=False)


def _write(policy: Policy, upstream: Sequence[Upstream], own: Own) -> Write:
    return Write(limit=int(limit_of(policy, upstream, own) - own.num_written))


def _wait(
    policy: Policy, upstream: Sequence[Upstream], own: Own, until: float = math.inf, own_tokens: float = math.inf
) -> Wait:
    """Until upstream changes in a way that matters: at a mark, at an end, or because an upstream leaves."""
    leaving: list[float] = []
    if any(_is_worth_reading(policy, one, own) for one in upstream):  # it waits for those that are missing
        missing = (one for one in _counted(upstream, own) if not _is_present(policy, one, own))
        leaving = [_leaves_at(policy, one, own) for one in missing]
    raised = math.inf
    if _counted(upstream, own) and not _may_write(policy, upstream, own):
        raised = (own.num_written + 1 - policy.lead) / policy.slope
    return Wait(
        until=min([until, *leaving]), mark=mark_of(policy, own.steps), raised_mark=raised, own_tokens=own_tokens
    )
