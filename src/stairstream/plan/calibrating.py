"""Measures the cost model of a model at its endpoint, by a few short calls: the least that a forecast needs."""

import asyncio
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from stairstream.backends.base import Backend
from stairstream.core.errors import BackendError
from stairstream.engine.tasks import TaskBlock, pick_first
from stairstream.plan.calling import PLAIN, Call, Caller, Turn, text_of
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.fitting import Found, fit, known, speeds_of

MOST_AT_ONCE = 4
"""Calls at once whose speed is measured, where the endpoint takes that many."""
LEAST_ROUNDS, MOST_ROUNDS = 2, 5
NARROW = 0.1
"""A number is measured again, up to MOST_ROUNDS, until its interval of 95 % is this share of it either way."""
SHORT_WORDS = 10
LONG_TOKENS, LEAST_LONG_TOKENS, LONG_S = 1500, 300, 2.0
"""Long prompts are shorter where the first one, the shortest, shows that this one would take longer than LONG_S."""
USUAL_TOKENS_PER_WORD = 2.0
_SHORT_TOKENS = 20
_STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""By the number of values: so many standard errors are an interval of 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """The calls of a calibration of one model, and about the tokens of their prompts: at most."""

    calls: int
    prompt_tokens: int


def loads_of(at_once: int, *, is_engine: bool) -> Sequence[int]:
    """Calls at once whose speed is worth measuring, up to so many: an own engine's may change with each one more."""
    return range(2, at_once + 1) if is_engine or at_once < 2 else (at_once,)


def amount_of(loads: Sequence[int]) -> Amount:
    """The amount, with these loads, if it is never sure."""
    several = sum(loads)
    beside = 1 if several else 0
    return Amount(
        calls=2 + MOST_ROUNDS * (3 + several) + LEAST_ROUNDS * 2 * beside,
        prompt_tokens=_SHORT_TOKENS
        + LEAST_LONG_TOKENS
        + MOST_ROUNDS * ((1 + several) * _SHORT_TOKENS + 2 * LONG_TOKENS)
        + LEAST_ROUNDS * beside * (_SHORT_TOKENS + LONG_TOKENS),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The costs, and in words what was left out, because the time was up, or varies too much to be sure."""

    costs: EndpointCosts
    left_out: Sequence[str]


async def _at_once() -> None:
    return


async def calibrate(
    backend: Backend,
    advance: Callable[[int], None] = lambda _: None,
    *,
    at_once: int = MOST_AT_ONCE,
    turn: Turn | None = None,
    within_s: float | None = None,
) -> Calibration:
    """The endpoint's cost model; `advance` is told of each call made, `turn` waited for before it.

    Short and long prompts in turn give the time per prompt token, a long one once more the time per cached token (if
    the endpoint says that it was cached), `at_once` calls the speed under load, and an answer beside a long prompt
    whether the two share a processor. What varies is measured again, as long as there is time: `within_s` after a first
    call, which does not count. Raises BackendError if no call succeeds.
    """
    caller = Caller(backend, advance, turn or _at_once)
    # connects, and loads an engine; a session's own warming would compute the prompt whose time is measured
    plain = await caller.call(PLAIN)
    cut = list[str]()
    rounds = _Rounds(caller, loads_of(at_once, is_engine=backend.room is not None), Found(plain=plain))
    try:
        async with asyncio.timeout(within_s):
            await rounds.run()
    except TimeoutError:
        if not known(rounds.found.short):
            raise BackendError(f"it has not answered a short prompt within {within_s:g} s") from None
        cut = [f"its {within_s:g} s were up"]
    return Calibration(costs=fit(rounds.found, caller.failed_share), left_out=[*cut, *rounds.left_out()])


def _tasks() -> TaskBlock:
    """For calls at once, of which several may be one too many that failed."""
    tasks = TaskBlock()
    tasks.pick = pick_first
    return tasks


@dataclass(slots=True)
class _Rounds:
    """The calls of a calibration: everything in turns, then once more whatever is not sure."""

    caller: Caller
    loads: Sequence[int]
    found: Found = field(default_factory=Found)
    long_words: int = 0

    async def run(self) -> None:
        """Until all is sure."""
        for number in range(MOST_ROUNDS):
            unsure = set(self._unsure()) if number >= LEAST_ROUNDS else None
            if unsure == set():
                return
            await self._round(number, unsure)

    async def _round(self, number: int, unsure: set[str] | None) -> None:
        """One round, of what is named, or of everything."""
        found = self.found
        if unsure is None or _SHORT in unsure:
            found.short.append(await self.caller.call(text_of(f"s{number}w", SHORT_WORDS)))
        self.long_words = self.long_words or await _choose_long_words(self.caller, found.short)
        if unsure is None or _PROMPTS in unsure:
            # shares no prefix with another call
            first, second = await self.caller.call_twice(text_of(f"l{number}w", self.long_words))
            found.fresh.append(first)
            found.again.append(second)
        if unsure is None or _LOAD in unsure:
            for load in self.loads:
                texts = [text_of(f"m{number}{load}{one}w", SHORT_WORDS) for one in range(load)]
                async with _tasks() as tasks:
                    calls = [tasks.create_task(self.caller.call(text)) for text in texts]
                found.together.setdefault(load, []).append([one.result() for one in calls])
        if self.loads and unsure is None:
            found.beside.append(await self._beside(number))

    async def _beside(self, number: int) -> tuple[Call | None, Call | None]:
        """An answer, and a long prompt that comes after its first token."""
        began = asyncio.Event()
        async with _tasks() as tasks:
            writing = tasks.create_task(self.caller.call(text_of(f"a{number}w", SHORT_WORDS), began))
            await began.wait()
            reading = tasks.create_task(self.caller.call(text_of(f"b{number}w", self.long_words)))
        return writing.result(), reading.result()

    def _values(self) -> dict[str, list[float]]:
        """The values that were measured so far, by their use."""
        values = {
            _SHORT: [one.first_s for one in known(self.found.short)],
            _PROMPTS: [one.first_s for one in known(self.found.fresh)],
        }
        if self.loads:
            values[_LOAD] = speeds_of(self.found.together.get(self.loads[-1], []))
        return values

    def _unsure(self) -> Iterator[str]:
        return (name for name, values in self._values().items() if not _is_narrow(values))

    def left_out(self) -> Iterator[str]:
        """All that is missing, or not sure."""
        for name, values in self._values().items():
            if not values:
                yield f"{name} not measured"
            elif not _is_narrow(values):
                yield f"{name} not within {NARROW:.0%}"
        if self.loads and not self.found.beside:
            yield "prompts beside answers not measured"


_SHORT, _PROMPTS, _LOAD = "the time of a short call", "the time of prompts", "the speed under load"


def _is_narrow(values: Sequence[float]) -> bool:
    """Whether the interval of the mean is."""
    if len(values) < 2:
        return False
    error: float = statistics.stdev(values) / math.sqrt(len(values))
    return _STUDENT[min(len(values), max(_STUDENT))] * error <= NARROW * statistics.fmean(values)


async def _choose_long_words(caller: Caller, short: Sequence[Call | None]) -> int:
    """Words of a long prompt that is computed within LONG_S, if that is long enough."""
    per_word = tokens_per_word(short)
    words = round(LEAST_LONG_TOKENS / per_word)
    first = await caller.call(text_of("f", words))
    if first is None or not first.at_s or not known(short):
        return round(LONG_TOKENS / per_word)
    begun = known(short)[-1]
    more_tokens, more_s = first.prompt_tokens - begun.prompt_tokens, first.first_s - begun.first_s
    if more_tokens <= 0 or words <= SHORT_WORDS:
        return round(LONG_TOKENS / per_word)
    fitting = more_tokens * LONG_S / more_s if more_s > 0 else LONG_TOKENS
    wanted = min(LONG_TOKENS, max(LEAST_LONG_TOKENS, fitting))
    # the words' own tokens: a template's are in both prompts
    return SHORT_WORDS + max(0, round((wanted - begun.prompt_tokens) * (words - SHORT_WORDS) / more_tokens))


def tokens_per_word(short: Sequence[Call | None]) -> float:
    """Tokens that the endpoint counts for such a word, so that a long prompt is as long as it should be, and fits."""
    counted = [one.prompt_tokens for one in known(short) if one.prompt_tokens]
    return max(1.0, statistics.median(counted) / SHORT_WORDS) if counted else USUAL_TOKENS_PER_WORD
