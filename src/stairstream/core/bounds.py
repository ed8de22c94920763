"""Limits of a number, marked in its annotation: said once, for what checks a value and for what describes it."""

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Marks a number in an annotation with the limits that it keeps."""

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    unit: str = ""

    def holds(self, number: float) -> bool:
        """Whether the number is within the limits."""
        return self.above < number and self.least <= number <= self.most

    def describe(self, is_whole: bool) -> str:
        """The limits as an error says them: `a whole number of at least 1`."""
        text = f"a {'whole ' if is_whole else ''}number{self.unit}"
        if self.above > -math.inf:
            return f"{text} above {self.above:g}" + (f" and up to {self.most:g}" if self.most < math.inf else "")
        if self.most < math.inf:
            return f"{text} from {self.least:g} to {self.most:g}"
        return f"{text} of at least {self.least:g}" if self.least > -math.inf else text


def check_bounds(value: object) -> None:
    """Raises ValueError for the first field of a dataclass that is out of its bounds; it begins with its name."""
    kind: Any = type(value)
    for name, bound, is_whole in _bounds_of(kind):
        number = getattr(value, name)
        if number is not None and not bound.holds(number):
            raise ValueError(f"{name} must be {bound.describe(is_whole)}, not {number:g}")


@cache
def _bounds_of(cls: type) -> tuple[tuple[str, Bound, bool], ...]:
    """The fields that have bounds, and whether they are whole numbers."""
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for one in fields(cls):
        for kind in (hints[one.name], *get_args(hints[one.name])):
            if get_origin(kind) is Annotated:
                inner, mark = get_args(kind)[:2]
                if isinstance(mark, Bound):
                    found.append((one.name, mark, inner is int))
    return tuple(found)
