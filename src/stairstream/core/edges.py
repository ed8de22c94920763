"""Edges at which a reader's chunk may end: any token, or held to the edge of a word, a sentence, or a section.

Models misread half words; agents that hand over step by step forward whole sections.
"""

import re
from typing import Literal

Edges = Literal["token", "word", "sentence", "section"]

_PATTERNS = {
    # in front of white space: what stands before it is a whole word
    "word": re.compile(r"(?<=\S)(?=\s)"),
    # after closing punctuation and before white space, and after a line's end
    "sentence": re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]]*(?=\s)|(?<=[\u3002\uff01\uff1f])|(?<=\n)"),
    # in front of a numbered heading at a line's beginning, a Markdown heading, or a rule
    "section": re.compile(r"(?<=\n)(?=(?:\d{1,3}[.)]|#{1,6}) |(?:step|section) \d|-{3,}\n)", re.IGNORECASE),
}

_REACH = 12
"""Characters before new text that may belong to an edge in it: a number, a heading's mark, `section 1`."""


class EdgeFinder:
    """Reads a growing text and says how much of it is complete."""

    def __init__(self, edges: Edges, delimiter: str | None = None) -> None:
        """With `delimiter`, a section ends after each occurrence of it instead of before the next heading."""
        self._pattern = re.compile(f"(?<={re.escape(delimiter)})") if delimiter else _PATTERNS[edges]
        self._tail = ""
        self._reach = max(_REACH, len(delimiter or ""))
        self._length = 0
        self.complete = 0

    def feed(self, text: str) -> int:
        """Take in more text; returns how many characters from the start are complete."""
        window = self._tail + text
        base = self._length - len(self._tail)
        self._length += len(text)
        for match in self._pattern.finditer(window):
            self.complete = max(self.complete, base + match.end())
        self._tail = window[-self._reach :]
        return self.complete
