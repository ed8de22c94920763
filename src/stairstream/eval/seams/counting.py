"""Signs of a seam in a text, as pure functions. A place is a number of characters, behind which an update came."""

import re
from collections.abc import Set
from itertools import pairwise

OPENING_WORDS, LEAST_OPENING_WORDS = 5, 3
"""So many of an answer's first words, again, are a new beginning; fewer where there are not more yet."""
NEAR_WORDS = 8
"""How many words behind an update belong to it."""
REPEAT_WORDS = 8
LEAK_WORDS = 6

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")
_FORMULA = re.compile(
    r"\W*(?:sure|certainly|of course|absolutely|great question|thank you|your answer|yes,|no,|let['\u2019]s|"
    r"you(?:['\u2019]re| are) (?:right|welcome|correct)|i(?:['\u2019]m| am) (?:glad|sorry|happy|sure)|"
    r"here(?:['\u2019]s| is| are)\b.{0,60}:)",
    re.IGNORECASE,
)
"""How a new answer begins, or a turn of a talk."""
_TAG = re.compile(r"</?(?:ref|reference|begun|beginning)\b", re.IGNORECASE)
_ENDS_SENTENCE = re.compile(r"""[.!?:;\n]["'\u201d\u2019)\]*_`]*\s*\Z""")
_LIST_ITEM = re.compile(r"(?:\A|\n)\s*(?:[-*\u2022]|\d+[.)])\s*\S*\Z")


def words_of(text: str) -> list[str]:
    """Its words, lower-cased; an apostrophe inside a word is part of it."""
    return [found.lower() for found in _WORD.findall(text)]


def restarts(text: str, place: int) -> bool:
    """Whether the answer begins anew behind a place: with its own first words, or with a formula of beginning."""
    before, after = words_of(text[:place]), words_of(text[place:])[: NEAR_WORDS + OPENING_WORDS]
    opening = before[:OPENING_WORDS]
    is_long = len(opening) >= LEAST_OPENING_WORDS
    if is_long and any(after[start : start + len(opening)] == opening for start in range(len(after))):
        return True
    return bool(before) and _FORMULA.match(text, place) is not None


def share_repeated(text: str) -> float:
    """The share of its runs of eight words that stood in it before."""
    words = words_of(text)
    runs = [tuple(words[start : start + REPEAT_WORDS]) for start in range(len(words) - REPEAT_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def breaks_word(text: str, place: int, known: Set[str]) -> bool:
    """Whether a place left a word that is none, or one that is said twice.

    The word that it is in, or those that it stands between, are looked up in `known` (lower case).
    """
    left, right = _word_before(text, place), _word_after(text, place)
    if left and right:  # inside a word, or two without a space
        return _is_strange(left + right, known) or (left[-1].isalpha() and right[0].isdigit())
    before, after = text[:place].rstrip(), text[place:].lstrip()
    left, right = _word_before(before, len(before)), _word_after(after, 0)
    return (bool(left) and left.lower() == right.lower()) or _is_strange(left, known) or _is_strange(right, known)


def breaks_sentence(text: str, place: int, names: Set[str]) -> bool:
    """Whether a sentence was left unfinished at a place: the next begins with a capital, or on a line of its own.

    Words of `names` have a capital anywhere. Where no sentence is open, as behind a full stop, nothing can break.
    """
    before, after = text[:place], text[place:]
    if not before.strip() or not after.strip() or _ENDS_SENTENCE.search(before) or _LIST_ITEM.search(before):
        return False
    if before[-1:].isalnum() and after[:1].isalnum():
        return after[0].isupper() or (before[-1].isalpha() and after[0].isdigit())  # else the word goes on
    gap = after[: len(after) - len(after.lstrip())]
    if "\n" in gap:
        return True
    first = _WORD.match(after.lstrip())
    return first is not None and first.group()[:1].isupper() and first.group() not in names | {"I"}


def end_of_word(text: str, place: int) -> int:
    """The end of the word that a place falls in; a place between words stays.

    Answers are updated between tokens, which is hardly ever inside a word: a place that is taken from another text is
    comparable only behind one.
    """
    return place + len(_word_after(text, place)) if _word_before(text, place) else place


def leaks(text: str, wording: str) -> bool:
    """Whether the answer says what only the prompt does: a delimiter, or a run of six words of its instructions."""
    if _TAG.search(text):
        return True
    told = words_of(wording)
    runs = {tuple(told[start : start + LEAK_WORDS]) for start in range(len(told) - LEAK_WORDS + 1)}
    words = words_of(text)
    return any(tuple(words[start : start + LEAK_WORDS]) in runs for start in range(len(words) - LEAK_WORDS + 1))


def names_in(text: str) -> frozenset[str]:
    """Words that have a capital inside a sentence."""
    found = set()
    for one, other in pairwise(_WORD.finditer(text)):
        between = text[one.end() : other.start()]
        if other.group()[:1].isupper() and between.strip() in ("", ",") and "\n" not in between:
            found.add(other.group())
    return frozenset(found)


def _word_before(text: str, place: int) -> str:
    """The part of a word that ends at a place."""
    start = place
    while start and (text[start - 1].isalnum() or text[start - 1] in "_'\u2019"):
        start -= 1
    return text[start:place].lstrip("'\u2019")


def _word_after(text: str, place: int) -> str:
    """The part of a word that begins at a place."""
    end = place
    while end < len(text) and (text[end].isalnum() or text[end] in "_'\u2019"):
        end += 1
    return text[place:end].rstrip("'\u2019")


def _is_strange(word: str, known: Set[str]) -> bool:
    """Whether it is no number and no known word; nothing is not strange."""
    return bool(word) and not any(one.isdigit() for one in word) and word.lower() not in known
