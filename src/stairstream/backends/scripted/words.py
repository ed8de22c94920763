"""The words of scripts: made, counted, and found again in what has been said."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, takewhile

from stairstream.core.messages import ToolCall
from stairstream.core.prompts import Prompt
from stairstream.core.session import ToolDelta

_CALL_CHARACTERS = 4
"""The text of one token of a call's arguments."""


def numbered_words(prefix: str, count: int) -> tuple[str, ...]:
    """Tokens `w1`, ` w2`, ... for the prefix `w`: their joined text is easy to check."""
    return tuple(f"{' ' if i > 1 else ''}{prefix}{i}" for i in range(1, count + 1))


def words_of(prompt: Prompt) -> list[str]:
    """A prompt's tokens by the rule of scripts: what stands between white space."""
    return [word for message in prompt.messages for word in message.content.split()]


def pieces_of(calls: Sequence[ToolCall]) -> Iterator[ToolDelta]:
    """Calls as they stream: the name first, then the arguments, a few characters a token."""
    for index, call in enumerate(calls):
        yield ToolDelta(index=index, id=call.id, name=call.name)
        for start in range(0, len(call.arguments), _CALL_CHARACTERS):
            yield ToolDelta(index=index, arguments=call.arguments[start : start + _CALL_CHARACTERS])


def count_cached(contexts: Iterable[Sequence[str]], words: Sequence[str]) -> int:
    """The number of the words that one of the contexts seen before begins with."""
    return max((_count_shared(context, words) for context in contexts), default=0)


def _count_shared(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def next_word(words: Sequence[str], written: str) -> int:
    """The index where a script continues after a text: after the words that it begins with, or after as many words as
    it has when it is not a script's own (an answer taken over from another model)."""
    ends = list(accumulate(map(len, words), initial=0))
    index = bisect_left(ends, len(written))
    if index == len(ends):
        return len(words) if written.startswith("".join(words)) else min(len(written.split()), len(words))
    is_own = ends[index] == len(written) and "".join(words[:index]) == written
    return index if is_own else min(len(written.split()), len(words))
