"""The script of a model: its tokens and when they come, as a value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stairstream.backends.scripted.faults import Fault
from stairstream.backends.scripted.manner import ONE_BY_ONE, Manner
from stairstream.core.messages import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The tokens of a model and when they come: `words` are the texts of its tokens, spaces included.

    Token i (from 0) of a call comes `first_token_s + prompt_tokens / prefill_tokens_per_s + i * token_s` after the
    call's start. A prompt has as many tokens as it has words between white space, the answer so far included.
    `thoughts` come in front of the words of every call, at the same pace, and count neither towards its limit nor as
    words.
    With `caches_prefix` the words that a prompt shares with the beginning of the same session's context before it
    cost no prefill, and count as cached; without it the cached count is unknown. With `prefetches` too, a session can
    have its next prompt computed beside a write, by a call for one token.
    Where a request has tools, and no result of theirs has just come, the answer is `before_calls` and then
    `tool_calls`, piece by piece as `pieces_of` cuts them.
    `manner` says how the tokens come: a batch of them at the instant of its last. With `ignores_prefill` a session
    begins its words anew with every write, as an endpoint does that takes an assistant message to be continued for one
    that has ended; in the layout `quoted` it continues. A fake model has `continues` for that.
    """

    words: Sequence[str]
    thoughts: Sequence[str] = ()
    first_token_s: float = 0.0
    token_s: float = 0.0
    prefill_tokens_per_s: float = math.inf
    caches_prefix: bool = False
    prefetches: bool = False
    fault: Fault | None = None
    tool_calls: Sequence[ToolCall] = ()
    before_calls: Sequence[str] = ()
    manner: Manner = ONE_BY_ONE
    ignores_prefill: bool = False

    def first_due_s(self, start_s: float, prompt_tokens: int, cached_tokens: int | None) -> float:
        """When the first token of a call is due that started then."""
        return start_s + self.first_token_s + (prompt_tokens - (cached_tokens or 0)) / self.prefill_tokens_per_s
