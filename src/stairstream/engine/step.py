"""One step while it is in flight: how much came of it, and what it used."""

import math
from dataclasses import dataclass

from stairstream.core.session import Began, Ended, Usage
from stairstream.core.tokens import believed_tokens

_NOTHING = Usage(cached_tokens=0)


@dataclass(slots=True, kw_only=True)
class Step:
    """The tokens of one step so far, by kind, as its deltas say.

    `size_before` is the length of the answer, in characters, when it began; `look_at_tokens` the number of tokens at
    which its agent decides again; `spent` what calls used that came to nothing. Before the first step, and after a
    takeover, only `index` and `tokens` are known.
    """

    index: int
    limit: int = 0
    is_update: bool = False
    size_before: int = 0
    tokens: int = 0
    call_tokens: int = 0
    thinking_tokens: int = 0
    began: Began | None = None
    spent: Usage = _NOTHING
    look_at_tokens: float = math.inf

    def usage(self, ended: Ended | None) -> Usage:
        """The backend's usage; for a call that was cut, an estimate of what was sent and came back."""
        if ended is not None and ended.usage is not None:
            return ended.usage + self.spent
        prompt_tokens = self.began.prompt_tokens if self.began else 0
        completion_tokens = self.tokens + self.call_tokens + self.thinking_tokens
        return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, is_estimate=True) + self.spent

    def uncounted_tokens(self, ended: Ended, size: int) -> int:
        """Tokens that the endpoint counts beyond ours, or below: it may send several in a delta, or some without text.

        `size` is the length of the answer, in characters, now.
        """
        least = self.limit if ended.reason == "limit" else 0
        return believed_tokens(self.tokens, ended.num_tokens, size - self.size_before, least) - self.tokens
