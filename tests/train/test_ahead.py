"""Iterators that run ahead give what they would have given."""

import threading
from collections.abc import Iterator
from itertools import count, islice

import pytest

from stairstream.train.ahead import run_ahead


def test_everything_comes_in_order() -> None:
    assert list(run_ahead(range(20))) == list(range(20))


def test_a_failure_comes_after_what_was_made_before_it() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    found = run_ahead(fail())
    assert next(found) == 1
    with pytest.raises(ValueError, match="no more"):
        next(found)


def test_it_is_no_further_ahead_than_it_may_be_and_ends_when_it_is_closed() -> None:
    made = []

    def make() -> Iterator[int]:
        for number in count():
            made.append(number)
            yield number

    before = threading.active_count()
    found = run_ahead(make(), most=2)
    assert list(islice(found, 3)) == [0, 1, 2]
    found.close()
    assert len(made) <= 3 + 2 + 1
    assert threading.active_count() == before
