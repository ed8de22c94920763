"""Limits in annotations: what they hold, how they are said, and that a dataclass keeps them."""

import math
from dataclasses import dataclass
from typing import Annotated

import pytest

from stairstream.core.bounds import Bound, check_bounds


@dataclass(frozen=True, kw_only=True)
class Values:
    count: Annotated[int, Bound(least=2)] = 2
    share: Annotated[float, Bound(above=0, most=1)] = 1
    money: Annotated[float, Bound(least=0)] | None = None
    free: float = 0

    def __post_init__(self) -> None:
        check_bounds(self)


@pytest.mark.parametrize(
    ("bound", "number", "said"),
    [
        (Bound(), -1, "a number"),
        (Bound(least=0), 0, "a number of at least 0"),
        (Bound(above=0), 0.5, "a number above 0"),
        (Bound(above=0, most=1), 1, "a number above 0 and up to 1"),
        (Bound(least=0, most=1), 0, "a number from 0 to 1"),
        (Bound(least=0, unit=" of seconds"), 3, "a number of seconds of at least 0"),
    ],
)
def test_bound_holds_a_number_and_says_its_limits(bound: Bound, number: float, said: str) -> None:
    assert bound.holds(number)
    assert bound.describe(False) == said


@pytest.mark.parametrize(
    ("bound", "number"),
    [(Bound(least=0), -0.1), (Bound(above=0), 0), (Bound(above=0, most=1), 1.1), (Bound(least=0), math.nan)],
)
def test_number_outside_is_not_held(bound: Bound, number: float) -> None:
    assert not bound.holds(number)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"count": 1}, "count must be a whole number of at least 2, not 1"),
        ({"share": 0}, "share must be a number above 0 and up to 1, not 0"),
        ({"money": -0.5}, "money must be a number of at least 0, not -0.5"),
        ({"money": math.nan}, "money must be a number of at least 0, not nan"),
    ],
)
def test_dataclass_keeps_its_bounds(values: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        Values(**values)  # type: ignore[arg-type]
    assert str(caught.value) == said


def test_values_within_their_bounds_are_made() -> None:
    assert Values(count=3, share=0.5, money=0, free=-math.inf).money == 0
