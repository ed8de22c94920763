"""The words of a call: limits, word edges, what is trimmed and how it is counted."""

import pytest

from stairstream.backends.continuation import Continuation
from stairstream.backends.wire import Piece
from stairstream.core.seams import EDGE_TOKENS, QuoteSeam, Seam
from stairstream.core.session import Delta
from stairstream.core.stops import StopFinder


def make(limit: int, seam: Seam | None = None, stops: StopFinder | None = None, edge: bool = False) -> Continuation:
    return Continuation(limit, seam, stops, ends_at_word=edge)


def take(continuation: Continuation, *texts: str) -> str:
    """One piece at a time, one token each."""
    deltas = [continuation.take([Piece(text, 1)], True) for text in texts]
    return "".join(delta.text for delta in deltas if delta)


def test_pieces_of_one_read_make_one_delta() -> None:
    assert make(9).take([Piece("a", 1), Piece(" b", 2)], True) == Delta("a b", 3)
    assert make(9).take([Piece("a", 1)], False) == Delta("a", 1, None, True)
    assert make(9).take([], True) is None


def test_exact_counts_end_at_the_limit() -> None:
    continuation = make(2)
    assert continuation.take([Piece("a", 1), Piece("b", 1), Piece("c", 1)], True) == Delta("ab", 2)
    assert continuation.reason == "limit"


def test_estimates_end_only_far_beyond_the_limit() -> None:
    continuation = make(2)
    pieces = [Piece("a", 1)] * 40
    delta = continuation.take(pieces, False)
    assert delta is not None and delta.num_tokens == 2 * 2 + EDGE_TOKENS
    assert continuation.reason == "limit"


def test_a_step_that_must_end_at_a_word_goes_on_to_its_end() -> None:
    continuation = make(2, edge=True)
    assert take(continuation, "un", "be", "liev", "able", " story", " is") == "unbelievable"
    assert continuation.reason == "limit"


def test_it_goes_on_for_eight_tokens_at_most() -> None:
    continuation = make(2, edge=True)
    assert take(continuation, *"abcdefghijklmnop") == "abcdefghijklmnop"[: 2 + EDGE_TOKENS]
    assert continuation.reason == "limit"


def test_a_word_that_has_ended_needs_nothing_more() -> None:
    continuation = make(2, edge=True)
    assert take(continuation, "one", " ", "two") == "one "
    assert continuation.reason == "limit"


def test_end_soon_waits_for_the_word_edge_or_not() -> None:
    inside = make(100, edge=True)
    take(inside, "un", "be")
    inside.end_soon()
    assert inside.reason is None
    assert take(inside, "known", " to") == "known"
    assert inside.reason == "stopped"
    anywhere = make(100)
    take(anywhere, "un", "be")
    anywhere.end_soon()
    assert anywhere.reason == "stopped"


def test_a_trimmed_repeat_does_not_count() -> None:
    continuation = make(3, seam=QuoteSeam("Once upon a midday"), edge=True)
    delta = continuation.take(
        [Piece(text, 1) for text in ("upon", " a", " midday", " there", " was", " a", " king")], True
    )
    assert delta is not None
    assert delta.text == " there was a"
    assert delta.num_tokens == 3 and delta.is_estimate
    assert continuation.reason == "limit"


@pytest.mark.parametrize(
    ("sent", "new", "joined"),
    [
        ("one", "two", "one two"),
        ("one.", "Two", "one. Two"),
        ("a well-", "known", "a well-known"),
        ("a (", "small", "a (small"),
        ("天空是", "蓝色的", "天空是蓝色的"),
        ("空は", "あおい", "空はあおい"),
        ("하늘은", "파랗다", "하늘은 파랗다"),
        ("café", "😀 yes", "café 😀 yes"),
        ("30", "°C", "30°C"),
        ("one", ", two", "one, two"),
    ],
)
def test_a_space_parts_only_what_are_two_words(sent: str, new: str, joined: str) -> None:
    continuation = make(100, seam=QuoteSeam(sent))
    assert sent + take(continuation, new) == joined


def test_text_that_was_held_back_comes_at_the_end_with_its_tokens() -> None:
    continuation = make(100, seam=QuoteSeam("Once upon a time"))
    assert take(continuation, "Once", " upon") == ""
    assert continuation.finish() == Delta(" Once upon", 2, None, True)
    assert continuation.num_tokens == 2


def test_a_stop_string_ends_the_call() -> None:
    continuation = make(100, stops=StopFinder(["END"]))
    assert take(continuation, "a", " E", "N", "D", "b") == "a END"
    assert continuation.reason == "stop_string"
