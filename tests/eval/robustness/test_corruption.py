"""Proposals made wrong, and the share of an answer that comes from planted words."""

from typing import get_args

import pytest

from stairstream.eval.robustness.corruption import Kind, Part, contradict, corrupt
from stairstream.eval.robustness.free import share_only_from
from stairstream.eval.robustness.problems import propose, solve
from stairstream.eval.tasks.numbers import final_number

TEXT = "a b c d e f g h i"


@pytest.mark.parametrize(
    ("part", "text", "planted"),
    [
        ("head", "1 2 3 d e f g h i", "1 2 3"),
        ("tail", "a b c d e f 7 8 1", " 7 8 1"),
        ("all", "1 2 3 4 5 6 7 8 1", "1 2 3 4 5 6 7 8 1"),
    ],
)
def test_part_of_the_words_is_swapped_for_those_at_the_same_positions(part: Part, text: str, planted: str) -> None:
    found = corrupt(TEXT, "swapped", part, "1 2 3 4 5 6 7 8")
    assert (found.text, found.planted) == (text, planted)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("part", get_args(Part))
@pytest.mark.parametrize("text", ["", "one", "It is 5 more,\n\nnot less than 2."])
def test_any_text_can_be_made_wrong(kind: Kind, part: Part, text: str) -> None:
    found = corrupt(text, kind, part, "other words")
    assert found.planted in found.text
    assert (part == "all") <= (found.text == found.planted)


def test_contradiction_changes_numbers_negations_and_contraries() -> None:
    words = ["It", " is", " always", " 5.", " It", " can", " not", " be", " better", " Before", " 1990"]
    assert "".join(contradict(words)) == "It is not never 22. It can be worse After 5977"


def test_only_words_of_no_other_text_count() -> None:
    assert share_only_from("red cats sing", "red cats", ["cats dance"], 1) == pytest.approx(1 / 3)
    assert share_only_from("Red cats sing.", "the red cats sing", ["cats sing"], 2) == 0.5
    assert share_only_from("", "red", [], 1) == 0
    assert share_only_from("one two", "one two", [], 4) == 0


def test_proposals_name_their_number_first_and_last() -> None:
    solved = solve("He has 3 + 4 = <<3+4=7>>7 eggs.\n#### 7")
    assert (solved.right, solved.wrong) == ("7", "17")
    assert propose(solved, 0) == "The answer is 7.\nHe has 3 + 4 = 7 eggs.\nSo the answer is 7."
    assert propose(solved, 1, "head") == "It is 17.\nHe has 3 + 4 = 7 eggs.\nSo it is 7."
    assert final_number(propose(solved, 2, "tail")) == 17
    assert propose(solved, 0, "all").count("17") == 2
