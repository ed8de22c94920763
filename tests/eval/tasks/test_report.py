"""The notes below the tables of tasks."""

from stairstream.eval.tasks.evaluating import Pair
from stairstream.eval.tasks.report import make_table
from stairstream.eval.tasks.scores import Judging, TaskReport


def notes_of(num_whole: int) -> tuple[str, ...]:
    judging = Judging(
        model="j", num_pairs=20, num_whole=num_whole, num_unreadable=36, num_failed=0, agreement=1, first_wins=None
    )
    report = TaskReport(
        task="arena-hard", num_questions=20, num_asked=20, opponent="single", rows=(), judging=judging, notes=()
    )
    return make_table(report).notes


def test_agreement_is_told_of_the_pairs_that_have_two_verdicts() -> None:
    assert notes_of(2) == ("judge j: both orders agree in 100% of 2 pairs with two verdicts, out of 20",)
    assert notes_of(20) == ("judge j: both orders agree in 100% of 20 pairs",)


def test_call_that_failed_is_no_unreadable_reply() -> None:
    assert Pair(first=None, second=None, num_failed=1).num_unreadable == 1
    assert Pair(first="A", second=None, num_failed=1).num_unreadable == 0
