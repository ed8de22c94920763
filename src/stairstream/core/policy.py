"""A policy is six numbers; everything that decides when an agent reads and writes is a pure function here.

The engine, the simulator and the tests share these functions: (numbers, progress of upstream, own progress,
time) -> wait until / write up to n / finish.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Quorum = int | Literal["all", "most"]
"""How many upstream agents must be there: a number, all, or `most`: all but one of three or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When an agent starts, how often it reads again, and how far it may run ahead.

    first_chunk  tokens that an upstream agent must have written before the first step (inf: until its end)
    growth       update k waits for first_chunk * (1 + growth + ... + growth^k) tokens
    quorum       how many upstream agents must have that much, or have ended
    patience_s   seconds to wait for the others once the quorum is there
    lead, slope  the agent may write lead + slope * (tokens it has read of the slowest counted upstream)

    What is not given never holds an agent back.
    """

    first_chunk: float = 16
    growth: float = 2
    quorum: Quorum = "most"
    patience_s: float = 0.25
    lead: float = math.inf
    slope: float = 1

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)


def _problems(policy: Policy) -> list[str]:
    """What is wrong with the numbers, each as `name must be ..., not ...`."""
    found: list[str] = []
    if not policy.first_chunk >= 1 or (
        policy.first_chunk != math.inf and policy.first_chunk != int(policy.first_chunk)
    ):
        found.append(f"first_chunk must be a whole number of at least 1, or inf, not {policy.first_chunk}")
    if not 1 <= policy.growth < math.inf:
        found.append(f"growth must be a number of at least 1, not {policy.growth}")
    if isinstance(policy.quorum, str):
        if policy.quorum not in ("all", "most"):
            found.append(f"quorum must be a whole number of at least 1, all, or most, not {policy.quorum!r}")
    elif isinstance(policy.quorum, bool) or not float(policy.quorum).is_integer() or policy.quorum < 1:
        found.append(f"quorum must be a whole number of at least 1, all, or most, not {policy.quorum}")
    if not 0 <= policy.patience_s < math.inf:
        found.append(f"patience_s must be a number of seconds of at least 0, not {policy.patience_s}")
    if math.isnan(policy.lead) or policy.lead == -math.inf:
        found.append(f"lead must be a number of tokens or inf, not {policy.lead}")
    if not 0 < policy.slope < math.inf:
        found.append(f"slope must be a number above 0, not {policy.slope}")
    return found


PRESETS: dict[str, Policy] = {
    "paper": Policy(first_chunk=8, growth=1, quorum="all", patience_s=0, lead=0, slope=1),
    "balanced": Policy(first_chunk=16, growth=1.5, quorum="most", patience_s=0.25, lead=0, slope=0.4),
    "cheap": Policy(first_chunk=32, growth=4, quorum="most", patience_s=0.25, lead=0, slope=0.5),
    "careful": Policy(first_chunk=48, growth=1.5, quorum="all", patience_s=0.5, lead=0, slope=0.25),
    "wait": Policy(first_chunk=math.inf, growth=1, quorum="all", patience_s=0, lead=math.inf, slope=1),
}
"""`wait` is ordinary Mixture-of-Agents; `paper` is arXiv 2510.05059 with its first chunk of 8."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """How far one upstream agent is, and how much of it has been read, in its tokens.

    `is_thinking`: it has only had thoughts so far that are not forwarded.
    """

    num_written: int
    num_read: int
    has_ended: bool
    end_is_read: bool
    is_thinking: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it still counts towards a quorum: it may write more, or has text that is unread."""
        return not self.has_ended or self.num_written > self.num_read


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """How far the agent itself is.

    `steps` counts the steps begun so far. `model_ended_at` is when its model last ended by itself, None if it did
    not; `is_confirmed` says that it ended in an update that added no word. `quorum_since` is when the quorum for the
    next step was first there. With `is_full` its context has no room for more to read.
    """

    max_tokens: int
    steps: int = 0
    num_written: int = 0
    step_written: int = 0
    is_writing: bool = False
    model_ended_at: float | None = None
    is_confirmed: bool = False
    quorum_since: float | None = None
    is_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do before `until` (loop time), unless upstream changes first.

    `mark` is the number of tokens at which an upstream that is not there yet matters; `own_tokens` the
    number of tokens of this step at which a step under way should be looked at again.
    """

    until: float = math.inf
    mark: float = math.inf
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


def mark_of(policy: Policy, k: int) -> float:
    """Tokens that an upstream must have written before step k: first_chunk * (1 + growth + ... + growth^k)."""
    if policy.first_chunk == math.inf:
        return math.inf
    if policy.growth == 1:
        return policy.first_chunk * (k + 1)
    return policy.first_chunk * (_power(policy.growth, k + 1) - 1) / (policy.growth - 1)


def chunk_of(policy: Policy, k: int) -> float:
    """Tokens that step k writes at least before an update may end it: first_chunk * growth^k."""
    return policy.first_chunk * _power(policy.growth, k)


def _power(base: float, exponent: int) -> float:
    """base ** exponent, infinite where a float overflows."""
    try:
        return float(base) ** exponent
    except OverflowError:
        return math.inf


def quorum_of(policy: Policy, num_upstream: int) -> int:
    """The quorum as a number, for `num_upstream` upstream agents in all."""
    match policy.quorum:
        case "all":
            return num_upstream
        case "most":
            return num_upstream - 1 if num_upstream >= 3 else num_upstream
        case number:
            return min(number, num_upstream)


def next_mark(policy: Policy, own: Own) -> float:
    """The mark of the next step; the limit raises it, so that a step that is due may write at least one token."""
    return max(mark_of(policy, own.steps), (own.num_written + 1 - policy.lead) / policy.slope)


def has_quorum(policy: Policy, upstream: Sequence[Upstream], own: Own) -> bool:
    """Whether enough upstream agents have reached the next step's mark or have ended."""
    present, missing = _count(policy, upstream, own)
    waits_for_ends = policy.first_chunk == math.inf  # then whoever only thinks is waited for as well
    talking = sum(one.is_open and (waits_for_ends or not one.is_thinking) for one in upstream)
    if not talking and missing:
        return False
    return present >= min(quorum_of(policy, len(upstream)), talking)


def _count(policy: Policy, upstream: Sequence[Upstream], own: Own) -> tuple[int, int]:
    """How many open upstreams have reached the mark or have ended, and how many are short of it."""
    mark = next_mark(policy, own)
    missing = sum(not one.has_ended and one.num_written < mark for one in upstream)
    return sum(one.is_open for one in upstream) - missing, missing


def limit_of(policy: Policy, upstream: Sequence[Upstream], own: Own) -> float:
    """Tokens that the agent may have written in all, once it has read everything that is there.

    lead + slope * the quorum-th largest number of tokens read of an upstream; one that has ended counts as infinite,
    one that is only thinking not at all.
    """
    reach = sorted(
        (math.inf if one.has_ended else one.num_written for one in upstream if not one.is_thinking), reverse=True
    )
    if not reach or own.is_full:
        return own.max_tokens
    slowest = reach[min(quorum_of(policy, len(upstream)), len(reach)) - 1]
    # rounded, so that a mark that has been reached always lets a token through
    return min(own.max_tokens, round(policy.lead + policy.slope * slowest, 6))


def decide(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Decision:
    """What an agent does next; the same rules serve between steps and beside a step under way.

    While `own.is_writing`, Write means: end the step and update.
    """
    if own.num_written >= own.max_tokens:
        return Finish(reason="length")
    if not upstream:
        return _go_on(own)
    if own.is_full:
        return _go_on(own)
    if own.model_ended_at is not None:
        return _after_own_end(policy, upstream, own, now)
    return _next_step(policy, upstream, own, now)


def _go_on(own: Own) -> Decision:
    """Nothing (more) to read: write to the end."""
    if own.is_writing:
        return Wait()
    if own.model_ended_at is not None:
        return Finish(reason="stop")
    return Write(limit=own.max_tokens - own.num_written, reads=False)


def _after_own_end(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Decision:
    """The model thinks that it is done: read what is unread and go on, or end."""
    assert own.model_ended_at is not None
    if own.is_confirmed:
        return Finish(reason="stop")
    if any(one.num_written > one.num_read for one in upstream):
        return _write(policy, upstream, own)
    until = own.model_ended_at + policy.patience_s
    if all(one.has_ended for one in upstream) or now >= until:
        return Finish(reason="stop")
    return Wait(until=until, mark=0)


def _next_step(policy: Policy, upstream: Sequence[Upstream], own: Own, now: float) -> Decision:
    mark = next_mark(policy, own)
    has_news = own.steps == 0 or any(
        one.num_written > one.num_read or (one.has_ended and not one.end_is_read) for one in upstream
    )
    is_complete = all(one.has_ended for one in upstream)
    if not has_news:
        return Wait(mark=mark)
    if not has_quorum(policy, upstream, own):
        return Wait(mark=mark)
    _, missing = _count(policy, upstream, own)
    if missing and own.quorum_since is not None and now < own.quorum_since + policy.patience_s:
        return Wait(until=own.quorum_since + policy.patience_s, mark=mark)
    if own.is_writing and not is_complete:
        least = chunk_of(policy, own.steps - 1)
        if own.step_written < least:
            return Wait(mark=mark, own_tokens=least)
    return _write(policy, upstream, own)


def _write(policy: Policy, upstream: Sequence[Upstream], own: Own) -> Decision:
    room = limit_of(policy, upstream, own) - own.num_written
    if room < 1:  # the model ended early and the limit does not let it go on yet
        return Wait(mark=next_mark(policy, own))
    return Write(limit=int(room))


def wakes_at(one: Upstream, mark: float) -> float:
    """The number of tokens at which an upstream's progress can change a decision; its end always can."""
    if one.num_written < mark:
        return mark
    return one.num_written + 1 if one.num_written == one.num_read else math.inf
