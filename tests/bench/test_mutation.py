"""Mutation testing itself: what is changed, and which lines belong together."""

import os

import pytest

pytest.importorskip("cosmic_ray")

from bench.mutants import marked, mutant_at, places_of, statement_at
from bench.mutation import in_fork

SOURCE = """
@dataclass(frozen=True)
class A:
    size: int = 4

    def grow(self, *, by: int | None = None) -> int:
        if self.size > 2 and (
            by
        ):
            return 1
        return 0
"""


def test_flags_and_keywords_are_not_changed_and_numbers_are() -> None:
    changed = {(place.line, place.is_in_function) for place in places_of(SOURCE)}
    assert changed == {(4, False), (7, True), (10, True), (11, True)}


def test_each_change_is_said() -> None:
    changes = {mutant_at(SOURCE, place).change for place in places_of(SOURCE)}
    assert "4: NumberReplacer: size: int = 4  ->  size: int = 5" in changes


def test_powers_are_changed() -> None:
    assert any("_Pow_" in place.operator for place in places_of("def square(a, *, b, **c):\n    return a**b\n"))


@pytest.mark.parametrize(("line", "first"), [(4, 4), (7, 7), (8, 7), (10, 10), (11, 11)])
def test_lines_of_a_statement_belong_together(line: int, first: int) -> None:
    assert statement_at(SOURCE)(line) == first


def test_statements_that_run_are_marked() -> None:
    lines, names = list[int](), dict[str, object]()
    exec(
        compile(marked("def f(a):\n    if a:\n        return 1\n    else:\n        a = 2\n    return a\n"), "", "exec"),
        names,
    )
    names["__reached__"] = lines.append
    assert (eval("f(0)", names), lines) == (2, [2, 5, 6])


def test_work_in_a_fork_gives_a_value_and_none_where_it_does_not_end() -> None:
    assert in_fork(lambda: [1, "a"], 10, 30) == [1, "a"]
    assert in_fork(lambda: os.kill(os.getpid(), 9), 10, 30) is None
    assert in_fork(lambda: 1 / 0, 10, 30) is None
