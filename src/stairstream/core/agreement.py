"""Whether proposers say the same, by plain overlap of words: no model is asked."""

import re
from collections.abc import Mapping

from stairstream.core.graph import Agreement

_WORD = re.compile(r"\w+")


def similarity(one: str, other: str) -> float:
    """Jaccard index of the lower-cased words of two texts: those in common over all; 1 for two empty ones."""
    a, b = (set(_WORD.findall(text.lower())) for text in (one, other))
    return len(a & b) / len(a | b) if a | b else 1.0


def agreeing(beginnings: Mapping[str, str], agreement: Agreement) -> tuple[str, ...]:
    """The first group of `agree` agents whose beginnings are all similar to that of its first; () if there is none."""
    for name, text in beginnings.items():
        group = [
            other for other, its in beginnings.items() if other == name or similarity(text, its) >= agreement.similarity
        ]
        if len(group) >= agreement.agree:
            return tuple(group)
    return ()
