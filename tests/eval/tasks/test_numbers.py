"""GSM8K's exact match: which number of an answer counts."""

from decimal import Decimal

import pytest

from stairstream.eval.tasks.numbers import final_number, is_right


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 + 4 = 7 eggs.\n#### 7", "7"),
        ("#### 3\nNo, wait.\n#### 4 eggs, of 9", "4"),
        ("#### **$1,234.50**", "1234.50"),
        ("####\nSo it is 12", "12"),
        ("It is 12 #### as I said", "12"),
        ("The answer is 18.", "18"),
        ("from 10-3 on", "3"),
        ("it fell by -3", "-3"),
        ("costs -$20", "-20"),
        ("only .5 left", "0.5"),
        ("\\boxed{42}", "42"),
    ],
)
def test_number_after_the_mark_counts_else_the_last(text: str, number: str) -> None:
    assert final_number(text) == Decimal(number)


def test_text_without_a_number_has_none() -> None:
    assert final_number("none at all ####") is None
    assert not is_right("none at all", "#### 5")


def test_numbers_are_compared_by_value() -> None:
    assert is_right("$70,000.00", "blah <<1+1=2>>\n#### 70000")
    assert not is_right("7", "#### 70")
