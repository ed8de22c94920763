"""The items of one write as they come from its host."""

import asyncio
from collections import deque
from collections.abc import Callable

from stairstream.backends.base import Take
from stairstream.backends.remote.frames import (
    WINDOW,
    Failed,
    FromHost,
    Items,
    Stop,
    Took,
    unpack_error,
    unpack_item,
)
from stairstream.backends.remote.line import Line
from stairstream.core.errors import BackendError, ServerFailed, StairstreamError
from stairstream.core.session import Delta, ToolDelta, WriteItem

_TELL = WINDOW // 2


class Inbox:
    """Keeps what comes until it is asked for; words go to `take` first, in the turn of the loop in which they come.

    `keep` is called with the words that `take` took.
    """

    def __init__(self, line: Line, take: Callable[[], Take | None], keep: Callable[[Delta], None]) -> None:
        self.call = line.number(self._on_heard)
        self.num_tokens = 0
        self.has_called = False
        self._line = line
        self._take = take
        self._keep = keep
        self._items: deque[WriteItem] = deque()
        self._error: StairstreamError | None = None
        self._num_untold = 0
        self._waking: asyncio.Future[None] | None = None

    async def next(self) -> WriteItem:
        """The next item. Raises what the write failed by, after all that came before it."""
        while not self._items:
            if self._error is not None:
                raise self._error
            self._waking = asyncio.get_running_loop().create_future()
            try:
                await self._waking
            finally:
                self._waking = None
        item = self._items.popleft()
        self._count(item)
        return item

    def stop(self) -> None:
        """Ask the write to end soon."""
        self._line.send(Stop(self.call))

    def close(self) -> None:
        """Drop what still comes."""
        self._line.forget(self.call)

    def _on_heard(self, heard: FromHost | BackendError) -> None:
        match heard:
            case Items(items=items):
                for sent in items:
                    self._put(unpack_item(sent))
                if not self._items:
                    return
            case Failed():
                self._error = unpack_error(heard)
            case BackendError():
                self._error = heard
            case _:
                self._error = ServerFailed(f"{self._line.model}: its engine host has given up")
        if self._waking is not None and not self._waking.done():
            self._waking.set_result(None)

    def _put(self, item: WriteItem) -> None:
        if isinstance(item, Delta) and self._may_pass(item) and (take := self._take()) is not None and take(item):
            self._keep(item)
            self._count(item)
        else:
            self._items.append(item)

    def _may_pass(self, delta: Delta) -> bool:
        """Whether it is a word, not the first one, and all before it have been asked for."""
        return self.num_tokens > 0 and not self._items and not delta.is_thinking

    def _count(self, item: WriteItem) -> None:
        if isinstance(item, Delta):
            self.num_tokens += 0 if item.is_thinking else item.num_tokens
        elif isinstance(item, ToolDelta):
            self.has_called = True
        self._num_untold += 1
        if self._num_untold >= _TELL:
            self._line.send(Took(self.call, self._num_untold))
            self._num_untold = 0
