"""A continuation loses what was sent before, and nothing else."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.seams import SHORTEST_REPEAT, PrefillSeam, QuoteSeam, Seam, StrippedSeam

SENT = "The capital of France is Paris, which"
few_letters = st.text("ab ", max_size=60)


def join(seam: Seam, pieces: list[str]) -> str:
    return "".join(map(seam.feed, pieces)) + seam.finish()


def split(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def trim_repeat(sent: str, text: str) -> str:
    """What QuoteSeam should give, said in one piece."""
    for size in range(min(len(sent), len(text)), SHORTEST_REPEAT - 1, -1):
        if sent.endswith(text[:size]):
            return text[size:]
    return " " + text if sent and not sent[-1].isspace() and text and text[0].isalnum() else text


@pytest.mark.parametrize(
    ("continuation", "trimmed"),
    [
        (" Paris, which lies on", " lies on"),
        (SENT + " lies on", " lies on"),
        ("Paris, which", ""),
        ("is, which lies", " is, which lies"),
        ("lies on", " lies on"),
        (" lies on", " lies on"),
        (", we know", ", we know"),
        ("The capital of Spain", " The capital of Spain"),
        ("", ""),
    ],
)
def test_quote_seam_trims_an_exact_repeat_of_twelve_characters(continuation: str, trimmed: str) -> None:
    assert join(QuoteSeam(SENT), list(continuation)) == trimmed


def test_quote_seam_puts_no_space_behind_white_space_or_a_trimmed_repeat() -> None:
    assert join(QuoteSeam("one two "), ["three"]) == "three"
    assert join(QuoteSeam("antidisestablish"), ["antidisestablishmentarian"]) == "mentarian"


def test_quote_seam_lets_text_go_as_soon_as_it_cannot_be_a_repeat() -> None:
    seam = QuoteSeam(SENT)
    assert seam.feed("The capital") == ""
    assert seam.feed(" city") == " The capital city"
    assert seam.is_settled
    assert seam.feed("The capital") == "The capital"


def test_quote_seam_holds_nothing_that_is_too_near_the_end_for_a_repeat() -> None:
    assert QuoteSeam(SENT).feed("which") == " which"


@given(few_letters, few_letters, st.integers(0, 60), st.lists(st.integers(0, 120)))
def test_quote_seam_gives_the_same_for_any_split(sent: str, new: str, start: int, cuts: list[int]) -> None:
    continuation = sent[start:] + new
    assert join(QuoteSeam(sent), split(continuation, cuts)) == trim_repeat(sent, continuation)


@given(few_letters, few_letters, st.lists(st.integers(0, 120)))
def test_prefill_seam_trims_a_full_echo_for_any_split(prefill: str, new: str, cuts: list[int]) -> None:
    seam = PrefillSeam(prefill, echoes=True)
    assert join(seam, split(prefill + new, cuts)) == new
    assert not seam.starts_over


@given(few_letters, few_letters, st.lists(st.integers(0, 120)))
def test_prefill_seam_shows_nothing_of_an_answer_that_starts_over(prefill: str, new: str, cuts: list[int]) -> None:
    seam = PrefillSeam(prefill, echoes=True)
    passed = join(seam, split(new, cuts))
    shared = next(
        (i for i, (a, b) in enumerate(zip(prefill, new, strict=False)) if a != b), min(len(prefill), len(new))
    )
    if seam.starts_over:
        assert passed == "" and SHORTEST_REPEAT <= shared < len(prefill)
    else:
        assert passed == new.removeprefix(prefill)


def test_prefill_seam_holds_back_only_what_may_be_the_echo() -> None:
    seam = PrefillSeam("Once upon")
    assert seam.feed("Once ") == ""
    assert seam.feed("more") == "Once more"


@pytest.mark.parametrize("pieces", [("The sky is blue", " since"), ("The", " sky is blue", " since")])
def test_an_echo_comes_in_a_piece_or_two(pieces: tuple[str, ...]) -> None:
    seam = PrefillSeam("The sky is blue")
    assert join(seam, list(pieces)) == " since"
    assert not seam.starts_over


@pytest.mark.parametrize(
    "pieces",
    [
        ("The", " sky", " was", " grey", " since"),  # word for word, and on
        ("The", " sky", " was", " gr"),  # word for word, to the limit
        ("The", " sky", " was", " blue"),  # the same beginning, other words
        ("The sky was not",),
    ],
)
def test_an_answer_that_says_its_beginning_again_starts_over(pieces: tuple[str, ...]) -> None:
    seam = PrefillSeam("The sky was grey")
    assert join(seam, list(pieces)) == ""
    assert seam.starts_over and not seam.has_continued


@pytest.mark.parametrize(
    ("prefill", "new", "is_over"),
    [
        ("The sky is blue because of", "Sure! The sky", True),
        ("The sky is blue because of", " the light", False),
        ("The sky is blue. ", "Sure! The sky", False),  # may be its next sentence
        ("It is made with Java", "Script", True),  # one call too many, and only until the server was seen to continue
    ],
)
def test_a_server_that_nobody_saw_continue_may_begin_a_new_turn(prefill: str, new: str, is_over: bool) -> None:
    seam = PrefillSeam(prefill, is_new=True)
    assert (join(seam, [new]) == "") == seam.starts_over == is_over
    assert PrefillSeam(prefill).feed(new) == new


def test_what_goes_on_in_mid_sentence_has_continued() -> None:
    for prefill, new, has_continued in (("one", " two", True), ("un", "der", True), ("one", "Two", False)):
        seam = PrefillSeam(prefill)
        seam.feed(new)
        assert seam.has_continued == has_continued


# White space that was left out of what was sent


@pytest.mark.parametrize(
    ("stripped", "continuation", "shown"),
    [
        (" ", " blue", "blue"),
        (" ", "blue", "blue"),
        ("\n\n", "\n\nNext", "Next"),
        ("\n\n", "\n\n    code", "    code"),
        ("\n\n", "\nNext", "Next"),
        ("\n", "\n\nNext", "\nNext"),
        ("\n", "  code", "  code"),
        ("\n\n", "\n", ""),
        (" ", "", ""),
    ],
)
@pytest.mark.parametrize("sent", ["The sky is", ""])
def test_white_space_that_stands_already_does_not_come_again(
    stripped: str, continuation: str, shown: str, sent: str
) -> None:
    inner = PrefillSeam(sent, echoes=False) if sent else None
    assert join(StrippedSeam(stripped, inner), list(continuation)) == shown
    assert join(StrippedSeam(stripped, inner and PrefillSeam(sent, echoes=False)), [continuation]) == shown


def test_an_answer_that_starts_over_is_seen_also_where_white_space_was_left_out() -> None:
    seam = StrippedSeam(" ", PrefillSeam("The capital of France is", echoes=False))
    assert [seam.feed(piece) for piece in ("The ", "capital ", "of ", "Spain")] == [""] * 4
    assert seam.is_settled and seam.starts_over
