"""Text of an upstream agent as it may stand in a prompt: delimiters of ours and control tokens are broken by a
backslash before their last character, so that a text's escaped form begins the escaped form of any longer text.
"""

import re
from itertools import pairwise

from stairstream.core import control_tokens

_DELIMITER = r"<[\s/\\]*(?:[Rr][Ee][Ff][Ee][Rr][Ee][Nn][Cc][Ee]|[Bb][Ee][Gg][Uu][Nn])"
_TOKEN = re.compile(f"{_DELIMITER}|{control_tokens.PATTERN}")
_MANY_SPACES = re.compile(r"<[\s/\\]{2,}")
_KEPT = max(control_tokens.LONGEST, len("< reference"))


def escape(text: str) -> str:
    """The text with every delimiter of ours and every control token broken, also where they overlap."""
    return Escaper().feed(text)


class Escaper:
    """Escapes a text that comes in parts; a token is broken wherever the text was cut."""

    def __init__(self) -> None:
        self._before = ""  # the end of the text so far, as much as a token may begin in

    def feed(self, text: str) -> str:
        """The next part, escaped."""
        whole, start = self._before + text, len(self._before)
        cuts = set()
        found = _TOKEN.search(whole)
        while found:  # from the next character on, as a token may hold another
            cuts.add(found.end() - 1)
            found = _TOKEN.search(whole, found.start() + 1)
        # any number of spaces may stand in a delimiter, and one is as good as many
        self._before = _MANY_SPACES.sub("< ", whole)[-_KEPT:]
        if not cuts:
            return text
        edges = [start, *sorted(cut for cut in cuts if cut >= start), len(whole)]  # the others were broken before
        return "\\".join(whole[one:other] for one, other in pairwise(edges))
