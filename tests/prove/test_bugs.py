"""It can fail: each of the planted bugs is found by a seed, and by an ordinary test (docs/proof.md has the table)."""

from pathlib import Path

import pytest

from stairstream.sim.prove.drawing import draw_case
from stairstream.sim.prove.proving import judge
from tests.prove.bugs import BUGS, Bug
from tests.prove.planting import planted
from tests.prove.search import MOST_SEEDS, first_seed, first_test

PAGE = Path(__file__).parents[2] / "docs" / "proof.md"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_by_its_seed(bug: Bug) -> None:
    assert 0 <= bug.seed < MOST_SEEDS
    case = draw_case(bug.seed)
    assert judge(case)[1] == []
    with planted(bug):
        assert judge(case)[1] != []
    assert judge(case)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_its_seed_is_the_first_that_finds_it(bug: Bug) -> None:
    assert first_seed(bug)[0] == bug.seed


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_an_ordinary_test_finds_it_too(bug: Bug) -> None:
    assert first_test(bug, bug.test) == bug.test


def test_the_page_has_them_all() -> None:
    rows = [f"| {bug.name} | {bug.seed:,} | `{bug.test.removeprefix('tests/')}` |" for bug in BUGS]
    assert [row for row in rows if row not in PAGE.read_text()] == []
