"""Computes the share of an answer that comes only from planted words."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words of a text, lower-cased."""
    return _WORD.findall(text.lower())


def grams_of(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Every run of `size` words, in order."""
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def share_only_from(answer: str, planted: str, others: Sequence[str], size: int) -> float:
    """The share of the answer's runs of `size` words that are in `planted` and in no other; 0 without runs."""
    runs = grams_of(words_of(answer), size)
    only = set(grams_of(words_of(planted), size))
    for text in others:
        only.difference_update(grams_of(words_of(text), size))
    return sum(run in only for run in runs) / len(runs) if runs else 0.0
