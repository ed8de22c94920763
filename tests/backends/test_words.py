"""Words of an answer as text and as token ids, kept in step."""

from stairstream.backends.words import DeltaMaker
from stairstream.core.seams import QuoteSeam
from stairstream.core.session import Delta
from stairstream.core.stops import StopFinder


def test_deltas_have_the_ids_of_their_tokens() -> None:
    maker = DeltaMaker(StopFinder(()))
    assert maker.feed("The", (5,)) == Delta("The", 1, (5,))
    assert maker.feed(" é", (6, 7)) == Delta(" é", 2, (6, 7))
    assert maker.finish() is None


def test_tokens_without_text_come_with_the_next_that_has_some() -> None:
    maker = DeltaMaker(StopFinder(()))
    assert maker.feed("", (9,)) is None
    assert maker.feed("a", (1,)) == Delta("a", 2, (9, 1))


def test_a_stop_string_ends_what_is_taken_and_keeps_the_ids() -> None:
    maker = DeltaMaker(StopFinder(("END",), "the E"))
    assert maker.feed("ND of", (2,)) == Delta("ND of", 1, (2,))
    assert maker.is_at_stop and maker.stop_string == "END"
    assert maker.finish() is None


def test_repeat_of_a_quoted_tail_is_trimmed() -> None:
    maker = DeltaMaker(StopFinder(()), QuoteSeam("the sea is very deep"))
    assert maker.feed("sea is very deep", (1,)) is None
    made = maker.feed(" and blue", (2,))
    assert made is not None
    assert (made.text, made.ids) == (" and blue", None)


def test_what_might_have_been_a_repeat_comes_out_at_the_end() -> None:
    maker = DeltaMaker(StopFinder(()), QuoteSeam("the sea is very deep"))
    assert maker.feed("sea is", (1,)) is None
    assert maker.finish() == Delta(" sea is", 1, None)
