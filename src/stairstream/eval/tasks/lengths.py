"""Length-controlled win rates: as if both answers were equally long.

The model of length-controlled AlpacaEval (arXiv 2404.04475) without the terms that need its own prompts and their
measured difficulty: P(win) = logistic(quality + weight * tanh(difference of lengths / its standard deviation)), fitted
to the verdicts; the rate is what it says at a difference of 0. A weak ridge pulls both parameters towards 0, so that
the fit is finite where all verdicts are equal, or where length alone separates them; there the ridge decides how far
the rate is from 0 % and 100 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any

from stairstream.eval.intervals import Interval

_STRENGTH = 0.005
"""Strength of the ridge: as weak as `C=100`, so that equal verdicts have a finite fit."""
RESAMPLES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Controlled:
    """A win rate at equal lengths; `weight` is above 0 if longer answers win. No interval if all scores are equal."""

    rate: float
    weight: float
    interval: Interval | None


def control_lengths(
    scores: Sequence[float], differences: Sequence[float], resamples: int = RESAMPLES
) -> Controlled | None:
    """Win rate from scores between 0 and 1, and from how much longer (in characters) each answer was.

    None unless some were longer and some shorter: else a difference of 0 would be extrapolated.
    """
    import numpy

    if not min(differences, default=0) < 0 < max(differences, default=0):
        return None
    won = numpy.asarray(scores, dtype=float)
    lengths = numpy.tanh(numpy.asarray(differences, dtype=float) / stdev(differences))
    fitted = _fit(won, lengths)
    interval = _resample(won, lengths, fitted, resamples) if len(set(scores)) > 1 else None
    return Controlled(rate=_logistic(fitted[0]), weight=fitted[1], interval=interval)


def _resample(won: Any, lengths: Any, fitted: tuple[float, float], resamples: int) -> Interval:
    import numpy

    rng = numpy.random.default_rng(0)
    draws = (rng.integers(len(won), size=len(won)) for _ in range(resamples))
    rates = [_logistic(_fit(won[draw], lengths[draw], fitted)[0]) for draw in draws]
    low, high = numpy.percentile(rates, (2.5, 97.5))
    return Interval(low=float(low), high=float(high))


def _fit(won: Any, lengths: Any, start: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """The maximum-likelihood parameters (quality, weight), with the ridge."""
    import numpy
    from scipy.optimize import minimize

    def loss(parameters: Any) -> tuple[float, Any]:
        quality, weight = parameters
        logits = quality + weight * lengths
        gaps = 1 / (1 + numpy.exp(-logits)) - won
        value = (numpy.logaddexp(0, logits) - won * logits).sum() + _STRENGTH * (quality**2 + weight**2)
        slopes = numpy.array([gaps.sum(), (gaps * lengths).sum()]) + 2 * _STRENGTH * numpy.array([quality, weight])
        return value, slopes

    quality, weight = minimize(loss, start, jac=True, method="BFGS").x
    return float(quality), float(weight)


def _logistic(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
