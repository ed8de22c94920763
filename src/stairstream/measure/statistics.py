"""Quantiles of a measurement, with intervals where scipy is there, and the tables of them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.eval.intervals import Interval, bootstrap_quantile, is_installed
from stairstream.eval.tables import Table, percent, seconds
from stairstream.measure.samples import Sample

SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """A quantile of a number in seconds, with its 95 % interval."""

    share: float
    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The numbers of one system; times are of the runs that were answered, None and empty without one.

    `cached_share` is that of all prompt tokens, `cost` that of 1,000 answers.
    """

    system: str
    num_runs: int
    num_failed: int
    num_degraded: int
    first_token: tuple[Quantile, ...]
    longest_gap: tuple[Quantile, ...]
    total: tuple[Quantile, ...]
    stall_s: float | None
    seen_share: float | None
    calls: float | None
    prompt_tokens: float | None
    cached_share: float | None
    cost: float | None


def rows_of(samples: Sequence[Sample]) -> list[Row]:
    """A row for each system, in the order in which they first answered."""
    names = dict.fromkeys(one.system for one in samples)
    return [_row_of(name, [one for one in samples if one.system == name]) for name in names]


def _row_of(name: str, samples: Sequence[Sample]) -> Row:
    whole = [one for one in samples if one.is_whole]
    seen = [one.seen_share for one in whole if one.seen_share is not None]
    costs = [one.cost for one in whole if one.cost is not None]
    return Row(
        system=name,
        num_runs=len(samples),
        num_failed=len(samples) - len(whole),
        num_degraded=sum(bool(one.degraded) for one in whole),
        first_token=quantiles([one.first_token_s for one in whole if one.first_token_s is not None]),
        longest_gap=quantiles([one.longest_gap_s for one in whole]),
        total=quantiles([one.total_s for one in whole]),
        stall_s=_mean([one.stall_s for one in whole]),
        seen_share=_mean(seen),
        calls=_mean([one.calls for one in whole]),
        prompt_tokens=_mean([one.prompt_tokens for one in whole]),
        cached_share=_cached_share(whole),
        cost=1000 * statistics.fmean(costs) if costs and len(costs) == len(whole) else None,
    )


def quantiles(values: Sequence[float]) -> tuple[Quantile, ...]:
    """The quantiles of SHARES; none of no values."""
    if not values:
        return ()
    has_intervals = is_installed()
    return tuple(
        Quantile(
            share=share,
            value=quantile(values, share),
            interval=bootstrap_quantile(values, share) if has_intervals else None,
        )
        for share in SHARES
    )


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile, between two values in proportion."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _cached_share(samples: Sequence[Sample]) -> float | None:
    """None where an endpoint does not say."""
    cached = [one.cached_tokens for one in samples if one.cached_tokens is not None]
    prompts = sum(one.prompt_tokens for one in samples)
    return sum(cached) / prompts if prompts and len(cached) == len(samples) else None


def tables_of(rows: Sequence[Row], title: str) -> list[Table]:
    """The rows for people: their times, then what they cost."""
    return [_times_table(rows, title), _costs_table(rows)]


def _times_table(rows: Sequence[Row], title: str) -> Table:
    notes = () if is_installed() else ("intervals need scipy: pip install 'stairstream[eval]'",)
    return Table(
        title=title,
        heads=("", "first token p50", "p95", "p99", "longest pause p50", "total p50", "p95", "p99"),
        rows=tuple(
            (row.system, *_times(row.first_token), _times(row.longest_gap)[0], *_times(row.total)) for row in rows
        ),
        notes=notes,
    )


def _costs_table(rows: Sequence[Row]) -> Table:
    notes = ["means; seen: of the references, known per word"]
    if any(row.num_failed for row in rows):
        notes.append("failed: not answered, or cut off by a deadline or a budget; no time and no mean counts them")
    if any(row.cost is not None for row in rows):
        notes.append("cost: of 1,000 answers, by the prices of the configuration")
    return Table(
        title="what it cost",
        heads=("", "runs", "failed", "degraded", "seen", "calls", "prompt tokens", "cached", "cost"),
        rows=tuple(_cells(row) for row in rows),
        notes=tuple(notes),
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.system,
        str(row.num_runs),
        str(row.num_failed),
        str(row.num_degraded),
        percent(row.seen_share),
        "-" if row.calls is None else f"{row.calls:.1f}",
        "-" if row.prompt_tokens is None else f"{row.prompt_tokens:,.0f}",
        percent(row.cached_share),
        "-" if row.cost is None else f"{row.cost:.2f}",
    )


def _times(found: Sequence[Quantile]) -> tuple[str, ...]:
    """The median with its interval, then the others."""
    if not found:
        return tuple("-" for _ in SHARES)
    median, *others = found
    return (with_interval(median), *(seconds(one.value) for one in others))


def with_interval(one: Quantile) -> str:
    """A quantile as 1.20 s [1.10, 1.31]."""
    bounds = "" if one.interval is None else f" [{one.interval.low:.2f}, {one.interval.high:.2f}]"
    return f"{seconds(one.value)}{bounds}"
