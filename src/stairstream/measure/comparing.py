"""Two measurements beside each other: by how much each time of each system has changed."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stairstream.core.errors import ConfigError
from stairstream.eval.intervals import Interval, bootstrap_medians, is_installed
from stairstream.eval.tables import Table, seconds
from stairstream.measure.samples import Sample

NUMBERS: Mapping[str, Callable[[Sample], float]] = {
    "first token": lambda one: one.first_token_s or 0.0,
    "longest pause": lambda one: one.longest_gap_s,
    "total": lambda one: one.total_s,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Medians in seconds before and after, and their ratio with its interval.

    `is_certain`: the interval is known, and 1 is outside of it.
    """

    system: str
    number: str
    before_s: float
    after_s: float
    ratio: float | None
    interval: Interval | None

    @property
    def is_certain(self) -> bool:
        return self.interval is not None and not self.interval.low <= 1 <= self.interval.high


def compare(before: Sequence[Sample], after: Sequence[Sample]) -> list[Change]:
    """The changes of the systems that both have, and of the one that each has besides: a pipeline's policy has changed.

    Raises ConfigError if there is none.
    """
    found = []
    for name, (earlier, later) in _pairs(_by_system(before), _by_system(after)).items():
        found += [_change(name, number, of, earlier, later) for number, of in NUMBERS.items()]
    if not found:
        raise ConfigError("the two have no system in common that was answered")
    return found


def _by_system(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for one in samples:
        if one.is_whole:
            found.setdefault(one.system, []).append(one)
    return found


_Samples = Sequence[Sample]


def _pairs(before: Mapping[str, _Samples], after: Mapping[str, _Samples]) -> dict[str, tuple[_Samples, _Samples]]:
    """By the name to show."""
    found = {name: (own, after[name]) for name, own in before.items() if name in after}
    gone, come = ([name for name in one if name not in other] for one, other in ((before, after), (after, before)))
    if found and len(gone) == len(come) == 1:
        found[f"{gone[0]}, then {come[0]}"] = (before[gone[0]], after[come[0]])
    return found


def _change(
    system: str, name: str, number: Callable[[Sample], float], before: Sequence[Sample], after: Sequence[Sample]
) -> Change:
    earlier, later = [number(one) for one in before], [number(one) for one in after]
    before_s, after_s = statistics.median(earlier), statistics.median(later)
    return Change(
        system=system,
        number=name,
        before_s=before_s,
        after_s=after_s,
        ratio=after_s / before_s if before_s else None,
        interval=bootstrap_medians(later, earlier) if is_installed() else None,
    )


def table_of(changes: Sequence[Change], before: str, after: str) -> Table:
    """The changes for people."""
    return Table(
        title=f"{after} over {before}, medians",
        heads=("", "", "before", "after", "ratio", "95 %", ""),
        rows=tuple(
            (
                one.system,
                one.number,
                seconds(one.before_s),
                seconds(one.after_s),
                "-" if one.ratio is None else f"{one.ratio:.3f}",
                "-" if one.interval is None else f"[{one.interval.low:.3f}, {one.interval.high:.3f}]",
                _verdict(one),
            )
            for one in changes
        ),
        notes=("a change is said where the interval of the ratio excludes 1",),
    )


def _verdict(one: Change) -> str:
    if not one.is_certain or one.ratio is None:
        return ""
    return "faster" if one.ratio < 1 else "slower"
