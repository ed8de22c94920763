"""One replica of a model: a batch of calls that share a processor, a queue in front of it, and a prefix cache.

Calls that decode share the processor evenly. Where `pass_tokens` are known, prompts are computed one after the other,
in passes that they share with all answers; else they share the processor evenly too, and each kind has half of it.
Times come in as arguments: there is no clock here.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from stairstream.plan.endpoints import EndpointCosts

Key = tuple[int, str]
"""A run and one of its agents: the owner of a prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The room of a replica: calls at once, and tokens of prefixes in its cache."""

    slots: int
    cache_tokens: float


@dataclass(slots=True, kw_only=True)
class Job:
    """A call on its replica. `marks` are tokens of its answer, soonest first, at which `on_mark` is called with the
    time; the last mark is its end."""

    key: Key
    prompt_tokens: int
    shared_tokens: int
    tokens: int
    marks: deque[int]
    on_mark: Callable[[float, int], None]
    queued_s: float = 0.0
    cached_tokens: int = 0


@dataclass(slots=True)
class _Shared:
    """Work that advances equally for all who share it; `due` holds amounts at which a job has something to do."""

    done: float = 0.0
    num: int = 0
    due: list[tuple[float, int, Job]] = field(default_factory=list)


class Replica:
    """Take calls with `submit`; `next_s` is when something happens to them, and `advance` makes it happen."""

    def __init__(self, costs: EndpointCosts, size: Size) -> None:
        self.costs = costs
        self.size = size
        self.queue: deque[Job] = deque()
        self.num_active = self.load = 0  # `load`: calls that it has, the waiting ones included
        self.used = Used()
        self._token_s = [costs.token_s(load, saturates=True) for load in range(size.slots + 1)]
        self._now_s = 0.0
        self._arriving: list[tuple[float, int, Job]] = []
        self._prefill, self._decode = _Shared(), _Shared()
        self._cache: OrderedDict[Key, int] = OrderedDict()
        self._cached = self._context = 0  # `_context`: tokens before the answers that are decoded
        self._serial = count()

    def submit(self, job: Job, now_s: float) -> None:
        """Take a call; it waits while all slots are taken."""
        self._work(now_s)
        job.queued_s = now_s
        self.queue.append(job)
        self.load += 1
        self._admit()

    def use_until(self, now_s: float) -> "Used":
        """Its use until now."""
        self._work(now_s)
        return replace(self.used, queued_s=list(self.used.queued_s))

    def next_s(self) -> float | None:
        """The time of the next change; None if nothing is there to do."""
        times = [at_s for at_s, _, _ in self._arriving[:1]]
        for shared, rate in ((self._prefill, self._prefill_rate()), (self._decode, self._decode_rate())):
            if shared.due:
                times.append(self._now_s + max(0.0, shared.due[0][0] - shared.done) / rate)
        return min(times, default=None)

    def advance(self, now_s: float) -> None:
        """Do all that is due by then."""
        self._work(now_s)
        while self._arriving and self._arriving[0][0] <= now_s + _TINY:
            self._begin_prefill(heapq.heappop(self._arriving)[2])
        while self._prefill.due and self._prefill.due[0][0] <= self._prefill.done + _TINY:
            self._begin_decode(heapq.heappop(self._prefill.due)[2])
        while self._decode.due and self._decode.due[0][0] <= self._decode.done + _TINY:
            self._reach(heapq.heappop(self._decode.due)[2])

    def _work(self, now_s: float) -> None:
        """Let the shared work advance until now."""
        passed_s = now_s - self._now_s
        self.used.slot_s += passed_s * self.num_active
        self.used.prefill_s += passed_s * self._prompts_share()
        self._prefill.done += passed_s * self._prefill_rate()
        self._decode.done += passed_s * self._decode_rate()
        self._now_s = now_s

    def _prompts_share(self) -> float:
        """The share of the processor that prompts have."""
        if not self._prefill.num or not self._decode.num:
            return float(bool(self._prefill.num))
        if self.costs.pass_tokens is None:
            return 0.5
        return self.costs.prompts_share(self._decode.num, self._context)

    def _prefill_rate(self) -> float:
        together = 1 if self.costs.pass_tokens is not None else max(1, self._prefill.num)
        return self._prompts_share() / together

    def _decode_rate(self) -> float:
        """Tokens of each answer in a second."""
        if self.costs.pass_tokens is not None and self._prefill.num:
            return 1 / self.costs.pass_s(self._decode.num, self._context)
        token_s = self._token_s[self._decode.num] + self._context * self.costs.context_token_s
        return (1 - self._prompts_share()) / token_s

    def _admit(self) -> None:
        while self.queue and self.num_active < self.size.slots:
            job = self.queue.popleft()
            self.num_active += 1
            self.used.queued_s.append(self._now_s - job.queued_s)
            job.cached_tokens = min(job.shared_tokens, self._cache.get(job.key, 0))
            self.used.prompt_tokens += job.prompt_tokens
            self.used.cached_tokens += job.cached_tokens
            heapq.heappush(self._arriving, (self._now_s + self.costs.call_s, next(self._serial), job))

    def _begin_prefill(self, job: Job) -> None:
        work_s = self.costs.prompt_s(job.prompt_tokens, job.cached_tokens)
        self._prefill.num += 1
        begin_s = self._prefill.done
        if self.costs.pass_tokens is not None:
            begin_s = max([begin_s, *(due_s for due_s, _, _ in self._prefill.due)])
        heapq.heappush(self._prefill.due, (begin_s + work_s, next(self._serial), job))

    def _begin_decode(self, job: Job) -> None:
        self._prefill.num -= 1
        self._decode.num += 1
        self._context += job.prompt_tokens
        for mark in job.marks:  # token n comes n - 1 tokens after the first, which the prefill gives
            heapq.heappush(self._decode.due, (self._decode.done + max(0, mark - 1), next(self._serial), job))

    def _reach(self, job: Job) -> None:
        mark = job.marks.popleft()
        if not job.marks:
            self._decode.num -= 1
            self._context -= job.prompt_tokens
            self.num_active -= 1
            self.used.decoded_tokens += job.tokens
            self.load -= 1
            self._keep(job)
            self._admit()
        job.on_mark(self._now_s, mark)

    def _keep(self, job: Job) -> None:
        """The context of a call stays in the cache until others need the room; the longest unused goes first."""
        self._cached += job.prompt_tokens + job.tokens - self._cache.pop(job.key, 0)
        self._cache[job.key] = job.prompt_tokens + job.tokens
        while self._cached > self.size.cache_tokens:
            self._cached -= self._cache.popitem(last=False)[1]


_TINY = 1e-9


@dataclass(slots=True)
class Used:
    """The use of a replica: seconds of slots, of its processor for prompts, tokens, and each call's wait for a slot."""

    slot_s: float = 0.0
    prefill_s: float = 0.0
    decoded_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    queued_s: list[float] = field(default_factory=list)

    def since(self, before: "Used") -> "Used":
        """The use after `before`, an earlier state of the same."""
        return Used(
            slot_s=self.slot_s - before.slot_s,
            prefill_s=self.prefill_s - before.prefill_s,
            decoded_tokens=self.decoded_tokens - before.decoded_tokens,
            prompt_tokens=self.prompt_tokens - before.prompt_tokens,
            cached_tokens=self.cached_tokens - before.cached_tokens,
            queued_s=self.queued_s[len(before.queued_s) :],
        )
