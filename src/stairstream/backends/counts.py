"""Token counts as endpoints report them, and what of them is believed; pure.

No count is negative or larger than a call could be, and what was cached is a part of the prompt, whatever is said.
"""

from typing import NamedTuple

import msgspec

MAX_TOKENS = 1_000_000_000
"""A larger count is a mistake: no context window holds so many, and no database column has to."""


class PromptDetails(msgspec.Struct):
    """Parts of the prompt."""

    cached_tokens: int | None = None


class RawUsage(msgspec.Struct):
    """`usage` in the words of OpenAI, of Anthropic, and of DeepSeek (`prompt_cache_hit_tokens`)."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: PromptDetails | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Counts(NamedTuple):
    """The count that is believed; None: nothing believable was said."""

    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None


def believe(usage: RawUsage) -> Counts:
    """The counts of a usage, all prompt tokens in `prompt_tokens`."""
    completion = _first(usage.completion_tokens, usage.output_tokens)
    prompt = _first(usage.prompt_tokens)
    read, created = _first(usage.cache_read_input_tokens), _first(usage.cache_creation_input_tokens) or 0
    if prompt is None:
        prompt = _first(usage.input_tokens)
        is_beside = read is not None  # Anthropic's `input_tokens` are those that no cache had to do with
    else:
        # a gateway may have passed Anthropic's on under OpenAI's name, or added them up
        beside = prompt + (read or 0) + created
        is_beside = read is not None and (read > prompt or usage.total_tokens == beside + (completion or 0) > prompt)
    if prompt is not None and is_beside:
        prompt += (read or 0) + created
    details = usage.prompt_tokens_details or usage.input_tokens_details
    cached = _first(details.cached_tokens if details else None, usage.prompt_cache_hit_tokens, read)
    return Counts(prompt, cached, completion)


class Counted:
    """The counts of one answer so far, as far as they are believed; None: not said."""

    __slots__ = ("_cached_tokens", "_last_prompt", "completion_tokens", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_tokens: int | None = None
        self.completion_tokens: int | None = None
        self._cached_tokens: int | None = None
        self._last_prompt: int | None = -1

    @property
    def cached_tokens(self) -> int | None:
        """Tokens of the prompt that were cached; never more than it has, and unknown like its size."""
        if self.prompt_tokens is None or self._cached_tokens is None:
            return None
        return min(self._cached_tokens, self.prompt_tokens)

    def learn(self, usage: RawUsage) -> None:
        """Take the counts of a usage."""
        completion = usage.completion_tokens
        if (
            completion is not None
            and 0 <= completion <= MAX_TOKENS
            and self._last_prompt == usage.prompt_tokens
            and usage.prompt_tokens_details is None
            and usage.prompt_cache_hit_tokens is None
            and usage.cache_read_input_tokens is None
        ):  # as with every token of a server that counts as it goes
            self.completion_tokens = completion
            return
        self._last_prompt = usage.prompt_tokens
        counts = believe(usage)
        if counts.prompt_tokens is not None:
            self.prompt_tokens = counts.prompt_tokens
        if counts.completion_tokens is not None:
            self.completion_tokens = counts.completion_tokens
        self.learn_cached(counts.cached_tokens)

    def learn_cached(self, cached: int | None) -> None:
        """Take a count of cached tokens that comes beside the usage."""
        if cached is not None and cached >= 0:
            self._cached_tokens = cached


def _first(*counts: int | None) -> int | None:
    """The first count that may be one."""
    return next((count for count in counts if count is not None and 0 <= count <= MAX_TOKENS), None)
