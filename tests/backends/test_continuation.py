"""The words of a call: limits, word edges, what is trimmed and how it is counted."""

import pytest

from stairstream.backends.continuation import Continuation
from stairstream.backends.wire import Piece
from stairstream.core.seams import EDGE_TOKENS, PrefillSeam, QuoteSeam, Seam
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


def test_stop_string_that_was_found_is_said() -> None:
    continuation = make(100, stops=StopFinder(["END"]))
    assert continuation.stop_string is None
    take(continuation, "a END")
    assert continuation.stop_string == "END"
    assert make(100).stop_string is None


def test_stream_without_a_seam_holds_nothing_back() -> None:
    assert make(100).finish() is None


def test_limit_counts_the_tokens_of_all_pieces() -> None:
    continuation = make(1)
    assert take(continuation, "a", "b") == "a"
    assert continuation.reason == "limit"


def test_piece_that_passes_the_limit_is_the_last() -> None:
    continuation = make(1)
    assert continuation.take([Piece("ab", 2), Piece("c", 1)], True) == Delta("ab", 2)
    assert continuation.reason == "limit"


def test_estimates_end_although_no_piece_ends_exactly_there() -> None:
    continuation = make(6)
    delta = continuation.take([Piece("aaa", 3)] * 40, False)
    assert delta is not None and delta.num_tokens == 21  # the first from 2 * 6 + EDGE_TOKENS on
    assert continuation.reason == "limit"


def test_estimates_end_at_a_limit_that_the_endpoint_was_not_told() -> None:
    continuation = Continuation(2, None, None, ends_at_word=False, is_told=False)
    delta = continuation.take([Piece("a", 1)] * 40, False)
    assert delta is not None and delta.num_tokens == 2


def test_word_of_large_pieces_goes_on_for_eight_tokens_and_the_rest_of_a_piece() -> None:
    continuation = make(2, edge=True)
    delta = continuation.take([Piece("aaa", 3)] * 40, True)
    assert delta is not None and delta.num_tokens == 3 + 9
    assert continuation.reason == "limit"


@pytest.mark.parametrize(("texts", "taken"), [(("one ", "two"), "one "), ((" o", "ne", " two"), " one")])
def test_word_ends_where_its_last_character_says_so(texts: tuple[str, ...], taken: str) -> None:
    continuation = make(1, edge=True)
    assert take(continuation, *texts) == taken
    assert continuation.reason == "limit"


@pytest.mark.parametrize("texts", [(), ("one ",), (" ", "two", " ")])
def test_end_soon_is_at_once_where_no_word_has_begun(texts: tuple[str, ...]) -> None:
    continuation = make(100, edge=True)
    take(continuation, *texts)
    continuation.end_soon()
    assert continuation.reason == "stopped"


@pytest.mark.parametrize(
    ("sent", "pieces", "delta", "has_trimmed"),
    [
        ("", [("one", 2)], Delta("one", 2), False),
        ("", [("a", 1)], Delta("a", 1), False),
        ("", [("x" * 300, 2)], Delta("x" * 300, 2), False),
        ("one", [("two", 2)], Delta(" two", 2, None, True), False),  # a space more is no token more
        ("Once upon a midday", [("upon a midday", 1), (" x", 1)], Delta(" x", 1, None, True), True),
        # 19 of 32 characters pass, and as large a part of 10 tokens
        (
            "Once upon a midday",
            [("upon", 1), (" a", 1), (" midday", 1), (" there lived a king", 7)],
            Delta(" there lived a king", 6, None, True),
            True,
        ),
    ],
)
def test_text_counts_in_proportion_where_a_part_was_trimmed(
    sent: str, pieces: list[tuple[str, int]], delta: Delta, has_trimmed: bool
) -> None:
    continuation = make(100, seam=QuoteSeam(sent) if sent else None, edge=True)
    assert continuation.take([Piece(*piece) for piece in pieces], True) == delta
    assert continuation.has_trimmed is has_trimmed
    assert continuation.take([Piece(" more", 1)], True) == Delta(" more", 1)
    assert continuation.has_trimmed is has_trimmed


def test_what_the_seam_has_found_by_the_end_is_kept() -> None:
    repeats = make(100, seam=PrefillSeam("Once upon a midday"))
    assert take(repeats, "Once upon", " a mid") == ""
    assert repeats.finish() is None  # shared by 12 characters and more: it begins anew
    assert repeats.starts_over and not repeats.has_continued
    continues = make(100, seam=PrefillSeam("Once"))
    assert take(continues, " upon") == " upon"
    assert continues.has_continued and not continues.starts_over
