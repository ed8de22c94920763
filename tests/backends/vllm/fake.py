"""An engine that treats requests as vLLM does, without computing anything: the next word follows from the context
alone, and what would have been computed is counted."""

import asyncio
from collections.abc import Callable, Sequence

from stairstream.backends.in_process.tokens import Tokens
from stairstream.backends.vllm.turns import Output
from stairstream.core.graph import Sampling

BLOCK_TOKENS = 32
END = 2

Say = Callable[[Sequence[int]], int]
"""The next token after a context."""


class FakeEngine:
    """Requests on it share a prefix cache of whole blocks."""

    def __init__(self, tokens: Tokens, say: Say, context_tokens: int = 4096) -> None:
        self.tokens = tokens
        self.context_tokens = context_tokens
        self.block_tokens = BLOCK_TOKENS
        self.say = say
        self.requests: list[FakeRequest] = []
        self.blocks: set[tuple[int, ...]] = set()

    def begin(self, ids: Sequence[int], sampling: Sampling, max_tokens: int, *, is_resumable: bool) -> "FakeRequest":
        request = FakeRequest(self, is_resumable)
        self.requests.append(request)
        request.go_on(ids, max_tokens)
        return request

    @property
    def num_computed(self) -> int:
        """Prompt tokens computed by all requests."""
        return sum(request.num_computed for request in self.requests)

    @property
    def num_open(self) -> int:
        """Requests that nobody has closed."""
        return sum(request.is_open for request in self.requests)

    async def aclose(self) -> None:
        """Nothing runs."""


class FakeRequest:
    """Keeps what has been computed; the last token of a turn never is."""

    def __init__(self, engine: FakeEngine, is_resumable: bool) -> None:
        self._engine = engine
        self._context: list[int] = []
        self._last: int | None = None
        self._left = 0
        self._num_turns = 0
        self._num_cached = 0
        self._is_broken_off = False
        self._is_in_turn = False
        self.is_open = is_resumable
        self.num_computed = 0

    def go_on(self, ids: Sequence[int], max_tokens: int) -> None:
        assert ids and max_tokens >= 1 and not self._is_in_turn
        self._num_turns += 1
        assert self.is_open or self._num_turns == 1
        self._context += ids
        if self._num_turns == 1:
            self._num_cached = self._count_cached()
        self.num_computed += len(ids) - (self._num_cached if self._num_turns == 1 else 0)
        self._last, self._left, self._is_in_turn = None, max_tokens, True

    async def next(self) -> Output | None:
        await asyncio.sleep(0)
        if self._is_broken_off:
            return None
        assert self._is_in_turn
        if self._last is not None:
            self._context.append(self._last)
        self._last = self._engine.say(self._context)
        self._left -= 1
        self._keep_blocks()
        if self._last == END or not self._left:
            self._is_in_turn = False
        reason = None if self._is_in_turn else "stop" if self._last == END else "length"
        return Output([self._last], reason, self._num_cached)  # type: ignore[arg-type]

    def break_off(self) -> None:
        self._is_broken_off = True

    def give_up(self) -> None:
        self.is_open = False

    async def aclose(self) -> None:
        self.is_open = False

    def _keep_blocks(self) -> None:
        for end in range(BLOCK_TOKENS, len(self._context) + 1, BLOCK_TOKENS):
            self._engine.blocks.add(tuple(self._context[:end]))

    def _count_cached(self) -> int:
        end = 0
        while tuple(self._context[: end + BLOCK_TOKENS]) in self._engine.blocks and end + BLOCK_TOKENS < len(
            self._context
        ):
            end += BLOCK_TOKENS
        return end


def say_letters(tokens: Tokens, end_at: int | None = None) -> Say:
    """Says a letter that depends on the whole context; ends where the context has that many tokens."""
    letters = [tokens.encode(letter)[0] for letter in "abcdefghijklmnop"]

    def say(context: Sequence[int]) -> int:
        if end_at is not None and len(context) >= end_at:
            return END
        return letters[sum(number * token for number, token in enumerate(context, 1)) % len(letters)]

    return say
