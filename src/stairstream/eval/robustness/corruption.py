"""Makes proposals wrong: swaps a part of the words for those of another answer, or makes them say the contrary."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

Kind = Literal["swapped", "contradicted"]
Part = Literal["head", "tail", "all"]
"""The first third of the words, the last third, or all of them."""

_WORD = re.compile(r"\s*\S+")
_NUMBER = re.compile(r"\d+")
_CORE = re.compile(r"^(\s*\W*)([A-Za-z']+)(.*)$", re.DOTALL)

_VERBS = frozenset(("is", "are", "was", "were", "can", "could", "will", "would", "should", "must", "may", "might"))
_PAIRS = (
    ("always", "never"),
    ("more", "less"),
    ("most", "least"),
    ("increase", "decrease"),
    ("increases", "decreases"),
    ("increased", "decreased"),
    ("before", "after"),
    ("high", "low"),
    ("higher", "lower"),
    ("large", "small"),
    ("larger", "smaller"),
    ("good", "bad"),
    ("better", "worse"),
    ("best", "worst"),
    ("first", "last"),
    ("early", "late"),
    ("many", "few"),
    ("true", "false"),
    ("yes", "no"),
    ("with", "without"),
    ("hot", "cold"),
    ("old", "new"),
    ("easy", "hard"),
    ("fast", "slow"),
    ("safe", "dangerous"),
    ("start", "end"),
)
_CONTRARY = {**dict(_PAIRS), **{right: left for left, right in _PAIRS}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted:
    """A proposal made wrong, and the words that were planted in it."""

    text: str
    planted: str


def corrupt(text: str, kind: Kind, part: Part, other: str) -> Corrupted:
    """The text with a part of its words wrong, and as many words as before (but for added or removed negations).

    Swapped words come from the same positions of `other`, which is repeated if it is shorter.
    """
    words = _WORD.findall(text)
    start, end = _bounds(len(words), part)
    if kind == "swapped":
        planted = list(islice(cycle(_WORD.findall(other) or [""]), len(words)))[start:end]
        planted = [word if word[:1].isspace() else f" {word}" for word in planted]
        if not start and planted:
            planted[0] = planted[0].lstrip()
    else:
        planted = contradict(words[start:end])
    return Corrupted(text="".join([*words[:start], *planted, *words[end:]]), planted="".join(planted))


def contradict(words: Sequence[str]) -> list[str]:
    """The words with other numbers, with `not` added or removed, and with words replaced by their contraries."""
    found: list[str] = []
    for index, word in enumerate(words):
        before = _core_of(words[index - 1]) if index else ""
        core = _core_of(word)
        if core == "not" and before in _VERBS:
            continue
        found.append(_change(word, core))
        following = _core_of(words[index + 1]) if index + 1 < len(words) else ""
        if core in _VERBS and following and following != "not":
            found.append(" not")
    return found


def _change(word: str, core: str) -> str:
    if core in _CONTRARY:
        return word.replace(core, _CONTRARY[core]).replace(core.capitalize(), _CONTRARY[core].capitalize())
    return _NUMBER.sub(lambda number: str(int(number.group()) * 3 + 7), word)


def _core_of(word: str) -> str:
    found = _CORE.match(word)
    return found.group(2).lower() if found else ""


def _bounds(count: int, part: Part) -> tuple[int, int]:
    third = max(1, count // 3)
    match part:
        case "head":
            return 0, third
        case "tail":
            return count - third, count
        case "all":
            return 0, count
