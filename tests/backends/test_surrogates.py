"""Halves of characters find each other, or become one that nobody knows."""

from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.surrogates import join_halves, scrub

halves = st.text(st.sampled_from("a\ud83d\ude00\udbff\udc00é"), max_size=8)


def test_two_halves_are_one_character_wherever_they_are_cut() -> None:
    assert join_halves("", "It \ud83d") == ("It ", "\ud83d")
    assert join_halves("\ud83d", "\ude00!") == ("\U0001f600!", "")
    assert join_halves("\ud83d", "x") == ("\ufffdx", "")
    assert join_halves("", "\ude00") == ("\ufffd", "")


@given(st.lists(halves))
def test_no_half_comes_out_and_no_cut_matters(texts: list[str]) -> None:
    found, held = "", ""
    for text in texts:
        more, held = join_halves(held, text)
        more.encode()
        found += more
    whole, last = join_halves("", "".join(texts))
    assert (found + scrub(held)) == whole + scrub(last)
