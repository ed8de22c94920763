"""A session on a host: what it was told is kept, so that another host can continue it."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from stairstream.backends.base import Session, Take
from stairstream.backends.remote.channel import Affinity, Dialler
from stairstream.backends.remote.frames import (
    VERSION,
    Cancel,
    Done,
    Foresee,
    Open,
    Opened,
    Prefetch,
    Read,
    Warm,
    Write,
    pack_conversation,
)
from stairstream.backends.remote.inbox import Inbox
from stairstream.backends.remote.line import ANSWER_S, MOST_MOVES, Line
from stairstream.backends.remote.room import Reservations
from stairstream.core.errors import BackendError, ConnectionFailed
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Delta, Ended, Note, Usage, WriteItem, join_chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """Opens the sessions of one agent, of which there is a second one when the host of the first is gone."""

    dialler: Dialler
    name: str
    agent: Agent
    conversation: Conversation
    affinity: Affinity
    reserved: Reservations | None

    async def open(self, written: str, chunks: Sequence[Chunk], on: Line | None = None) -> tuple[Line, Opened]:
        """A session that has read the chunks, instead of the one that was open on that line."""
        if on is not None and on.lost is None:
            return on, await self._open_on(on, written, chunks)
        if self.reserved is not None:
            try:
                await self.reserved.renew()
            except TimeoutError:
                raise ConnectionFailed(f"{self.name}: the new engine host had no slots in {ANSWER_S:g} s") from None
        line = await Line.dial(self.dialler, self.name, self.affinity)
        try:
            return line, await self._open_on(line, written, chunks)
        except BaseException:
            line.close()
            raise

    async def _open_on(self, line: Line, written: str, chunks: Sequence[Chunk]) -> Opened:
        packed = pack_conversation(self.conversation)
        opened = await line.ask(lambda call: Open(call, VERSION, self.name, self.agent, packed, written), ANSWER_S)
        assert isinstance(opened, Opened)
        if chunks:
            line.send(Read(tuple(join_chunks(chunks))))
        return opened


class RemoteSession(Session):
    """A session on a host."""

    def __init__(self, opener: Opener, line: Line, opened: Opened, written: str) -> None:
        self._opener = opener
        self._line = line
        self._opened = opened
        self._written = [written]
        self._chunks: list[Chunk] = []
        self._inbox: Inbox | None = None
        self._take: Take | None = None
        self._is_stopped = False
        self._is_stale = False
        self._num_moves = 0

    @property
    def reads_ahead(self) -> bool:
        """As the session on the host."""
        return self._opened.reads_ahead

    @property
    def prefetches(self) -> bool:
        """As the session on the host."""
        return self._opened.prefetches

    async def warm(self) -> None:
        """Let the host warm."""
        try:
            await self._line.ask(Warm)
        except BackendError:
            return  # the first write will meet it again, and say so

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        """Let the host begin."""
        self._line.send(Foresee(tuple(chunks)))

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """Let the host compute the next prompt."""
        try:
            done = await self._line.ask(lambda call: Prefetch(call, tuple(chunks)))
        except BackendError:
            return False
        return isinstance(done, Done) and done.was_done

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Tell the host, which reads before its next write; that fails if this does."""
        self._chunks += chunks
        if not self._is_stale:
            self._line.send(Read(tuple(chunks)))

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """The host's items. A write whose host is lost after its first words ends, and the next continues elsewhere."""
        self._is_stopped = False
        if self._is_stale or self._line.lost is not None:
            self._line, _ = await self._opener.open("".join(self._written), self._chunks, self._line)
            self._is_stale = False
        inbox = self._inbox = Inbox(self._line, lambda: self._take, self._keep)
        self._line.send(Write(inbox.call, limit))
        if self._is_stopped:
            inbox.stop()
        is_over, began = False, None
        try:
            while not is_over:
                try:
                    item = await inbox.next()
                except BackendError as exc:
                    is_over = True
                    if not self._can_move(inbox):
                        raise
                    self._num_moves += 1
                    yield Note(kind="retry", text=f"{exc}; another continues")
                    yield Ended(reason="stopped", usage=_estimate(began, inbox.num_tokens))
                    return
                match item:
                    case Began():
                        began = item
                    case Delta():
                        self._keep(item)
                    case Ended():
                        is_over = True
                yield item
        finally:
            inbox.close()
            self._inbox = None
            if not is_over:
                self._line.send(Cancel(inbox.call))
                self._is_stale = True

    def hand_to(self, take: Take | None) -> None:
        """Words are taken as their frame comes."""
        self._take = take

    def stop(self) -> None:
        """Ask the host's write to end."""
        self._is_stopped = True
        if self._inbox is not None:
            self._inbox.stop()

    async def aclose(self) -> None:
        """Close the channel, and with it the session on the host."""
        self._line.close()

    def _keep(self, delta: Delta) -> None:
        if not delta.is_thinking:
            self._written.append(delta.text)

    def _can_move(self, inbox: Inbox) -> bool:
        """Whether what ended the write was its host's end, after words that another can continue."""
        is_lost = self._line.lost is not None
        return is_lost and inbox.num_tokens > 0 and not inbox.has_called and self._num_moves < MOST_MOVES


def _estimate(began: Began | None, num_tokens: int) -> Usage:
    prompt_tokens = began.prompt_tokens if began is not None else 0
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=num_tokens, is_estimate=True)
