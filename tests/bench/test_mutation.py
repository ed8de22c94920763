"""Mutation testing itself: what is changed, and which lines belong together."""

import os

import pytest

pytest.importorskip("cosmic_ray")

from bench.mutants import mutants_of, statement_at
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
    changed = {(mutant.line, mutant.is_in_function) for mutant in mutants_of(SOURCE)}
    assert changed == {(4, False), (7, True), (10, True), (11, True)}


def test_each_change_is_said() -> None:
    assert "NumberReplacer: size: int = 4  ->  size: int = 5" in {mutant.change for mutant in mutants_of(SOURCE)}


@pytest.mark.parametrize(("line", "lines"), [(4, [4]), (7, [7, 8, 9]), (8, [7, 8, 9]), (10, [10])])
def test_a_block_s_head_belongs_together(line: int, lines: list[int]) -> None:
    assert list(statement_at(SOURCE)(line)) == lines


def test_work_in_a_fork_gives_a_value_and_none_where_it_does_not_end() -> None:
    assert in_fork(lambda: [1, "a"], 10, 30) == [1, "a"]
    assert in_fork(lambda: os.kill(os.getpid(), 9), 10, 30) is None
    assert in_fork(lambda: 1 / 0, 10, 30) is None
