"""Detects signs of a seam in a text; pure functions. The position of an update is a number of characters."""

import re
from collections.abc import Set
from itertools import pairwise

OPENING_WORDS, LEAST_OPENING_WORDS = 5, 3
"""An answer that repeats this many of its first words restarts; fewer are enough while it has no more."""
NEAR_WORDS = 8
"""An update is looked for within this many words after it."""
REPEAT_WORDS = 8
LEAK_WORDS = 6

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")
_FORMULA = re.compile(
    r"\W*(?:sure|certainly|of course|absolutely|great question|thank you|your answer|yes,|no,|let['\u2019]s|"
    r"you(?:['\u2019]re| are) (?:right|welcome|correct)|i(?:['\u2019]m| am) (?:glad|sorry|happy|sure)|"
    r"here(?:['\u2019]s| is| are)\b.{0,60}:)",
    re.IGNORECASE,
)
"""Formulas that open a new answer, or a turn in a chat."""
_TAG = re.compile(r"</?(?:ref|reference|begun|beginning)\b", re.IGNORECASE)
_ENDS_SENTENCE = re.compile(r"""[.!?:;\n]["'\u201d\u2019)\]*_`]*\s*\Z""")
_LIST_ITEM = re.compile(r"(?:\A|\n)\s*(?:[-*\u2022]|\d+[.)])\s*\S*\Z")


def words_of(text: str) -> list[str]:
    """The words of a text, lower-cased; an apostrophe inside a word is part of it."""
    return [found.lower() for found in _WORD.findall(text)]


def restarts(text: str, position: int) -> bool:
    """Whether the answer restarts after a position: with its own first words, or with an opening formula."""
    before, after = words_of(text[:position]), words_of(text[position:])[: NEAR_WORDS + OPENING_WORDS]
    opening = before[:OPENING_WORDS]
    is_long = len(opening) >= LEAST_OPENING_WORDS
    if is_long and any(after[start : start + len(opening)] == opening for start in range(len(after))):
        return True
    return bool(before) and _FORMULA.match(text, position) is not None


def share_repeated(text: str) -> float:
    """The share of the runs of eight words of a text that repeat an earlier one."""
    words = words_of(text)
    runs = [tuple(words[start : start + REPEAT_WORDS]) for start in range(len(words) - REPEAT_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def breaks_word(text: str, position: int, known: Set[str]) -> bool:
    """Whether the words at a position are broken: not a known word, or the same word twice.

    The word around the position, or the two on either side of it, are looked up in `known` (lower case).
    """
    left, right = _word_before(text, position), _word_after(text, position)
    if left and right:  # inside a word, or two without a space
        return _is_strange(left + right, known) or (left[-1].isalpha() and right[0].isdigit())
    before, after = text[:position].rstrip(), text[position:].lstrip()
    left, right = _word_before(before, len(before)), _word_after(after, 0)
    return (bool(left) and left.lower() == right.lower()) or _is_strange(left, known) or _is_strange(right, known)


def breaks_sentence(text: str, position: int, names: Set[str]) -> bool:
    """Whether a sentence is left unfinished at a position: the next begins with a capital, or on a line of its own.

    Words of `names` have a capital anywhere. After the end of a sentence nothing can break.
    """
    before, after = text[:position], text[position:]
    if not before.strip() or not after.strip() or _ENDS_SENTENCE.search(before) or _LIST_ITEM.search(before):
        return False
    if before[-1:].isalnum() and after[:1].isalnum():
        return after[0].isupper() or (before[-1].isalpha() and after[0].isdigit())  # else the word continues
    gap = after[: len(after) - len(after.lstrip())]
    if "\n" in gap:
        return True
    first = _WORD.match(after.lstrip())
    return first is not None and first.group()[:1].isupper() and first.group() not in names | {"I"}


def end_of_word(text: str, position: int) -> int:
    """The end of the word around a position; a position between words is returned as it is.

    Answers are updated between tokens, hardly ever inside a word: a position that is taken from another text is
    comparable only at the end of a word.
    """
    return position + len(_word_after(text, position)) if _word_before(text, position) else position


def leaks(text: str, wording: str) -> bool:
    """Whether the answer repeats text of the prompt: a delimiter, or a run of six words of the instructions."""
    if _TAG.search(text):
        return True
    instructions = words_of(wording)
    runs = {tuple(instructions[start : start + LEAK_WORDS]) for start in range(len(instructions) - LEAK_WORDS + 1)}
    words = words_of(text)
    return any(tuple(words[start : start + LEAK_WORDS]) in runs for start in range(len(words) - LEAK_WORDS + 1))


def names_in(text: str) -> frozenset[str]:
    """Words of a text that have a capital inside a sentence."""
    found = set()
    for one, other in pairwise(_WORD.finditer(text)):
        between = text[one.end() : other.start()]
        if other.group()[:1].isupper() and between.strip() in ("", ",") and "\n" not in between:
            found.add(other.group())
    return frozenset(found)


def _word_before(text: str, position: int) -> str:
    """The part of a word that ends at a position."""
    start = position
    while start and (text[start - 1].isalnum() or text[start - 1] in "_'\u2019"):
        start -= 1
    return text[start:position].lstrip("'\u2019")


def _word_after(text: str, position: int) -> str:
    """The part of a word that begins at a position."""
    end = position
    while end < len(text) and (text[end].isalnum() or text[end] in "_'\u2019"):
        end += 1
    return text[position:end].rstrip("'\u2019")


def _is_strange(word: str, known: Set[str]) -> bool:
    """Whether a word is neither a number nor known; an empty one is not strange."""
    return bool(word) and not any(one.isdigit() for one in word) and word.lower() not in known
