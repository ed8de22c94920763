"""Thoughts that a model puts in front of its answer, between <think> and </think>: told apart while they stream."""

OPEN, CLOSE = "<think>", "</think>"


class ThoughtFinder:
    """Sorts the text of an answer into thoughts and words; whatever the pieces, the same comes out.

    Tags count only at the very start, behind white space at most, and are neither, nor is the white space before the
    first and behind the last. Without a closing tag all the rest is thoughts. Once `is_settled`, everything is words,
    and the finder can be dropped.
    """

    __slots__ = ("_held", "_is_closed", "has_found", "is_settled")

    def __init__(self) -> None:
        self._held = ""
        self._is_closed = False
        self.has_found = False
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
        """What was still held back at the end of the stream."""
        held, is_thought = self._pass_on(), self.has_found and not self._is_closed
        self.is_settled = True
        return (held, "") if is_thought else ("", held)

    def _find_open(self) -> bool:
        """Whether the opening tag is there; settles it where none can come any more."""
        start = self._held.lstrip()
        self.has_found = start.startswith(OPEN)
        self.is_settled = not self.has_found and not OPEN.startswith(start)
        if self.has_found:
            self._held = start.removeprefix(OPEN)
        return self.has_found

    def _take_thought(self) -> str:
        thought, tag, rest = self._held.partition(CLOSE)
        if tag:
            self._is_closed, self._held = True, rest
            return thought
        kept = next(size for size in range(len(CLOSE) - 1, -1, -1) if self._held.endswith(CLOSE[:size]))
        thought, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return thought

    def _take_words(self) -> str:
        self._held = self._held.lstrip()
        self.is_settled = bool(self._held)
        return self._pass_on()

    def _pass_on(self) -> str:
        held, self._held = self._held, ""
        return held
