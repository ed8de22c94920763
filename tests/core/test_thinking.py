"""Thoughts in front of an answer are told apart, wherever the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.thinking import TAGS, ThoughtFinder, split_at_close


def sort(*pieces: str) -> tuple[str, str]:
    finder = ThoughtFinder()
    found = [*(finder.feed(piece) for piece in pieces), finder.finish()]
    return "".join(thought for thought, _ in found), "".join(words for _, words in found)


@pytest.mark.parametrize(
    ("text", "thoughts", "words"),
    [
        ("", "", ""),
        ("Hello", "", "Hello"),
        ("  Hello", "", "  Hello"),
        ("<think>Hm.</think>Hello", "Hm.", "Hello"),
        ("\n<think>\nHm.\n</think>\n\nHello <think>no</think>", "\nHm.\n", "Hello <think>no</think>"),
        ("<think></think>\n", "", ""),
        ("<think>a < b </thin k>", "a < b </thin k>", ""),
        ("<think>all", "all", ""),
        ("<thin", "", "<thin"),
        ("<thinking aloud>", "", "<thinking aloud>"),
        ("<thinking>Hm.</thinking>\nHello", "Hm.", "Hello"),
        ("<reasoning>a </think> b</reasoning>Hello", "a </think> b", "Hello"),
        ("<thought>Hm.</thought>Hello", "Hm.", "Hello"),
        ("[THINK]Hm.[/THINK]Hello", "Hm.", "Hello"),
        ("[THIN]", "", "[THIN]"),
        ("<reason>", "", "<reason>"),
        ("A <think>b</think>", "", "A <think>b</think>"),
    ],
)
def test_thoughts_count_only_at_the_start(text: str, thoughts: str, words: str) -> None:
    assert sort(text) == (thoughts, words)
    assert sort(*text) == (thoughts, words)


parts = st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think>", "</th", " ", "\n", "hm", "é"]), max_size=8)


@given(parts.map("".join), st.data())
def test_any_split_gives_the_same(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert sort(*pieces) == sort(text)


@given(parts.map("".join))
def test_without_the_opening_tag_nothing_is_touched(text: str) -> None:
    if not text.lstrip().startswith(tuple(TAGS)):
        assert sort(*text) == ("", text)


def test_white_space_without_an_end_is_not_waited_for() -> None:
    finder = ThoughtFinder()
    assert finder.feed(" " * 5000) == ("", " " * 5000)
    assert finder.is_settled


def test_a_text_is_split_at_its_first_closing_tag() -> None:
    assert split_at_close("Hm.</reasoning> A </think> B") == ("Hm.", " A </think> B")
    assert split_at_close("Hm. </thin k>") is None
