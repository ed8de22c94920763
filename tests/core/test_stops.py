"""A stop string ends an answer wherever its pieces fall."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.stops import StopFinder

letters = st.text("ab", max_size=30)
stop_strings = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3)


def cut_at_stop(stops: list[str], written: str, new: str) -> tuple[str, bool]:
    """What should come out, said plainly: the first character of `new` that completes a stop decides."""
    for end in range(len(written) + 1, len(written) + len(new) + 1):
        joined = (written + new)[:end]
        starts = [end - len(stop) for stop in stops if joined.endswith(stop)]
        if starts:
            return new[: max(0, min(starts) - len(written))], True
    return new, False


@given(stop_strings, letters, letters)
def test_single_characters_stop_at_the_first_stop_string(stops: list[str], written: str, new: str) -> None:
    finder = StopFinder(stops, written)
    passed = "".join(map(finder.feed, new)) + finder.finish()
    assert (passed, finder.is_found) == cut_at_stop(stops, written, new)


@given(stop_strings, letters, letters, st.lists(st.integers(0, 30), max_size=5))
def test_any_split_gives_the_same(stops: list[str], written: str, new: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(new)) for cut in cuts), len(new)]
    finder = StopFinder(stops, written)
    passed = "".join(finder.feed(new[a:b]) for a, b in itertools.pairwise(edges)) + finder.finish()
    assert (passed, finder.is_found) == cut_at_stop(stops, written, new)


def open_end(stops: list[str], text: str) -> int:
    """Length of the longest end of a text that a stop string begins with, said plainly."""
    return max(
        (size for stop in stops for size in range(1, min(len(stop), len(text) + 1)) if stop.startswith(text[-size:])),
        default=0,
    )


near_stops = st.lists(
    st.builds(
        lambda part, times, end: part * times + end,
        st.text("ab", min_size=1, max_size=3),
        st.integers(1, 4),
        st.text("abc", max_size=2),
    ),
    min_size=1,
    max_size=4,
)


@given(near_stops, st.text("ab", max_size=12), st.lists(st.text("abc", max_size=12), max_size=8))
def test_exactly_the_longest_beginning_of_a_stop_is_held_back(stops: list[str], written: str, texts: list[str]) -> None:
    finder, new, passed = StopFinder(stops, written), "", ""
    for text in texts:
        new += text
        passed += finder.feed(text)
        shown, is_found = cut_at_stop(stops, written, new)
        held = 0 if is_found else min(len(new), open_end(stops, written + new))
        assert (passed, finder.is_found) == (shown[: len(shown) - held], is_found)


def test_long_stop_strings_are_matched_as_short_ones_are() -> None:
    finder = StopFinder(["a" * 20_000 + end for end in "bcde"])
    assert "".join(finder.feed("a" * 5) for _ in range(8000)) == "a" * 20_000
    assert finder.feed("x") == "a" * 20_000 + "x"


def test_only_the_possible_beginning_of_a_stop_is_held_back() -> None:
    finder = StopFinder(["END"])
    assert finder.feed("the E") == "the "
    assert finder.feed("N") == ""
    assert finder.feed("T") == "ENT"


def test_a_match_may_begin_in_words_of_an_earlier_call() -> None:
    finder = StopFinder(["\n\nUser:"], "Hello.\n\nUs")
    assert finder.feed("er: and") == ""
    assert finder.is_found


def test_a_stop_string_wholly_in_earlier_words_is_no_match() -> None:
    finder = StopFinder(["END"], "the END")
    assert finder.feed(" of it") == " of it"
    assert not finder.is_found


def test_the_stop_string_that_was_found_is_named() -> None:
    finder = StopFinder(["END", "stop", "top"])
    assert finder.found is None
    assert finder.feed("Do not sto") + finder.feed("p here") == "Do not "
    assert finder.found == "stop", "the longest of those that end there"
