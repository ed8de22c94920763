"""Thoughts that a model puts in front of its answer, between tags: told apart while they stream."""

import re

_NAMES = ("think", "thinking", "reasoning", "thought")
TAGS = {f"<{name}>": f"</{name}>" for name in _NAMES} | {"[THINK]": "[/THINK]"}
"""Opening tags with their closing ones: of most models, of Gemini's OpenAI layer, of Mistral's."""

LATE_TAG = re.compile(rf"(?:{'|'.join(map(re.escape, TAGS.values()))})\n")
"""A closing tag that ends a line, as models write it that think: in an answer about tags it rarely does."""

_LONGEST_MARGIN = 4096


class ThoughtFinder:
    """Sorts the text of an answer into thoughts and words; whatever the pieces, the same comes out.

    Tags count only at the very start, after white space at most, and are neither, nor is the white space before the
    first and after the last. Without a closing tag all the rest is thoughts. Once `is_settled`, everything is words,
    and the finder can be dropped. One that `has_found` from the beginning stands after a closing tag.
    """

    __slots__ = ("_close", "_held", "_is_closed", "has_found", "is_settled")

    def __init__(self, *, is_closed: bool = False) -> None:
        self._held = ""
        self._close = ""
        self._is_closed = self.has_found = is_closed
        self.is_settled = False

    def feed(self, text: str) -> tuple[str, str]:
        """The thoughts and the words that are certain by now."""
        if self.is_settled:
            return "", text
        self._held += text
        if not self.has_found and not self._find_open():
            return "", self._pass_on() if self.is_settled else ""
        thought = "" if self._is_closed else self._take_thought()
        return thought, self._take_words() if self._is_closed else ""

    def finish(self) -> tuple[str, str]:
        """Returns the text that was still held back at the end of the stream."""
        held, is_thought = self._pass_on(), self.has_found and not self._is_closed
        self.is_settled = True
        return (held, "") if is_thought else ("", held)

    def _find_open(self) -> bool:
        """Whether the opening tag is there; settles it where none can come any more."""
        start = self._held.lstrip()
        for tag, close in TAGS.items():
            if start.startswith(tag):
                self._held, self._close, self.has_found = start.removeprefix(tag), close, True
                return True
        may_come = len(self._held) < _LONGEST_MARGIN and any(tag.startswith(start) for tag in TAGS)
        self.is_settled = not may_come
        return False

    def _take_thought(self) -> str:
        thought, tag, rest = self._held.partition(self._close)
        if tag:
            self._is_closed, self._held = True, rest
            return thought
        kept = next(size for size in range(len(self._close) - 1, -1, -1) if self._held.endswith(self._close[:size]))
        thought, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return thought

    def _take_words(self) -> str:
        self._held = self._held.lstrip()
        self.is_settled = bool(self._held)
        return self._pass_on()

    def _pass_on(self) -> str:
        held, self._held = self._held, ""
        return held


def split_at_close(text: str) -> tuple[str, str] | None:
    """The text before the first closing tag, and after it; None without one."""
    found = [(offset, tag) for tag in TAGS.values() if (offset := text.find(tag)) >= 0]
    if not found:
        return None
    offset, tag = min(found)
    return text[:offset], text[offset + len(tag) :]


LONGEST_CLOSE = max(map(len, TAGS.values()))
"""Of so many characters a closing tag has at most."""
