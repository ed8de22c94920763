"""What a benchmark says of an option's value that can't be: one line, no traceback."""

import math
import subprocess
import sys
from argparse import ArgumentTypeError

import pytest

from bench.arguments import not_negative, one_or_more, positive, zero_or_more


@pytest.mark.parametrize(
    ("bench", "options", "says"),
    [
        ("retention", ["--presets", "nowhere"], "nowhere/retention.md: No such file"),
        ("floor", ["--serve", "."], ".: Is a directory"),
        ("embedded", ["--policy", "balanced,slop=1"], "slop: unknown key"),
    ],
)
def test_a_wrong_value_is_a_line(bench: str, options: list[str], says: str) -> None:
    command = [sys.executable, "-m", f"bench.{bench}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_counts_and_amounts() -> None:
    assert one_or_more("12") == 12
    assert zero_or_more("0") == not_negative("0") == 0
    assert positive("0.5") == 0.5
    assert positive("inf") == math.inf


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x", "\u00b2"])
def test_not_one_or_more(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no whole number of 1 or more"):
        one_or_more(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "", "x"])
def test_no_amount(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no number above 0"):
        positive(text)


@pytest.mark.parametrize("text", ["-1", "-inf", "nan", "", "x"])
def test_below_zero(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no whole number of 0 or more"):
        zero_or_more(text)
    with pytest.raises(ArgumentTypeError, match="is no number of 0 or more"):
        not_negative(text)
