"""Arrival processes: when questions come. Randomness comes in as an argument, so that a seed repeats them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count

from stairstream.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """So many users, each of whom asks the next question `think_s` after the last answer has ended."""

    users: int
    think_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisson:
    """Questions at random, on average so many per second, however long answers take."""

    per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Questions at these times, in seconds from the start."""

    at_s: tuple[float, ...]


Open = Poisson | Trace
"""Processes that do not wait for answers."""
Arrivals = Closed | Open


def times_s(arrivals: Open, rng: random.Random) -> Iterator[float]:
    """The times of the questions, soonest first; without end for Poisson."""
    match arrivals:
        case Poisson(per_s=per_s):
            return accumulate(rng.expovariate(per_s) for _ in count())
        case Trace(at_s=at_s):
            return iter(sorted(at_s))


def choose_arrivals(
    users: int | None, rate: float | None, trace: tuple[float, ...] | None, think_s: float = 0.0
) -> Arrivals:
    """The process that options name: one of them at most, one user without any. Raises ConfigError for several."""
    given = {"--users": users, "--rate": rate, "--trace": trace}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ConfigError(f"give one of --users, --rate and --trace, not {' and '.join(named)}")
    if rate is not None:
        return Poisson(per_s=rate)
    if trace is not None:
        return Trace(at_s=trace)
    return Closed(users=users or 1, think_s=think_s)
