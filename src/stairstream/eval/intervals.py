"""Intervals of 95 %: Wilson's for a share, the bootstrap's for a mean. Computed by scipy (extra `eval`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

RESAMPLES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval from `low` to `high`."""

    low: float
    high: float


def wilson(hits: int, count: int) -> Interval | None:
    """Interval of the share `hits / count`; None for a count of 0."""
    from scipy.stats import binomtest

    if not count:
        return None
    found = binomtest(hits, count).proportion_ci(method="wilson")
    return Interval(low=float(found.low), high=float(found.high))


def bootstrap_mean(values: Sequence[float]) -> Interval | None:
    """Interval of the mean of values, by the percentile bootstrap.

    None where all values are equal: resampling can't tell how certain that mean is, and an interval of no width would
    claim certainty.
    """
    import numpy

    return _bootstrap((values,), numpy.mean) if len(set(values)) >= 2 else None


def bootstrap_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval | None:
    """Interval of a ratio of sums, by resampling the pairs; None for fewer than two, or if a denominator can be 0."""
    import numpy

    if len(numerators) < 2 or min(denominators) < 0 or not any(denominators):
        return None
    if sum(one > 0 for one in denominators) < 2:
        return None

    def ratio(above: Any, below: Any, axis: int) -> Any:
        with numpy.errstate(divide="ignore", invalid="ignore"):
            return numpy.nan_to_num(above.sum(axis=axis) / below.sum(axis=axis), posinf=0.0)

    return _bootstrap((numerators, denominators), ratio, paired=True)


def is_installed() -> bool:
    """Whether intervals can be computed."""
    return find_spec("scipy") is not None


def bootstrap_quantile(values: Sequence[float], share: float) -> Interval | None:
    """Interval of a quantile, by the percentile bootstrap; None where all values are equal."""
    import numpy

    def quantile(sample: Any, axis: int) -> Any:
        return numpy.quantile(sample, share, axis=axis)

    return _bootstrap((values,), quantile) if len(set(values)) >= 2 else None


def bootstrap_medians(above: Sequence[float], below: Sequence[float]) -> Interval | None:
    """Interval of the ratio of two samples' medians; None for fewer than two of each, or if one below is 0."""
    import numpy

    if min(len(above), len(below)) < 2 or min(below) <= 0:
        return None

    def ratio(first: Any, second: Any, axis: int) -> Any:
        return numpy.median(first, axis=axis) / numpy.median(second, axis=axis)

    return _bootstrap((above, below), ratio)


def _bootstrap(samples: Sequence[Sequence[float]], statistic: Callable[..., Any], *, paired: bool = False) -> Interval:
    import numpy
    from scipy.stats import bootstrap

    found = bootstrap(
        [numpy.asarray(values, dtype=float) for values in samples],
        statistic,
        paired=paired,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=numpy.random.default_rng(0),
    ).confidence_interval
    return Interval(low=float(found.low), high=float(found.high))
