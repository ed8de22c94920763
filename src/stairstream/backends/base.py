"""The contract between the engine and the models, wherever they run: a backend opens sessions."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Chunk, Delta, Setting, Takes, WriteItem

Take = Callable[[Delta], bool]
"""Takes a delta at once and without waiting; False: it is to be an item of `write`."""


class Session(Protocol):
    """One agent's growing context on one backend: it reads upstream text and writes tokens.

    A backend's session subclasses this: `read`, `write`, `stop` and `aclose` are its own, the rest is optional and does
    nothing unless it is overridden. The engine calls one method at a time, except `stop`, which may come at any time,
    `warm` and `prefetch`, which run beside the others, and `foresee`, which comes before the first `read`. How reading
    and writing become requests or cache entries is the backend's affair.
    """

    @property
    def reads_ahead(self) -> bool:
        """Whether `foresee` is of use; the same for the life of the session."""
        return False

    @property
    def prefetches(self) -> bool:
        """Whether `prefetch` is of use: what one call has computed the next one finds. The same for life."""
        return False

    async def warm(self) -> None:
        """Do early what can be done before the first chunk: connect, probe, prefill the prompt's head.

        Runs beside everything else and may be cancelled; raises no BackendError; without it everything still works.
        """
        return

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        """Begin to compute a prompt before it has to be written: `chunks` is all that the first read would bring now.

        A later call brings the same and more. Returns at once. What is computed must be exactly what the first write
        would compute. Called only where `reads_ahead`.
        """
        return

    async def prefetch(self, chunks: Sequence[Chunk]) -> bool:
        """Have the next prompt computed, beside a write in flight; returns whether that was done.

        Exactly these chunks are what the next `read` will bring. The write in flight is not asked to stop before this
        has ended, so it waits for no permit. Raises no BackendError, and may be cancelled. What it costs is part of the
        usage of the write in flight, or of the next. Called only where `prefetches`.
        """
        return False

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Take in everything that is new, in one call; may prefill at once.

        An upstream that ended without a word comes as an empty final chunk.
        """

    def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """Continue the answer for up to `limit` tokens: one Began, then Deltas, ToolDeltas and Notes, then one Ended.

        A second Began before the first Delta says that the call had to be made again, perhaps in another layout.
        Deltas end at character borders. After the delta that completes one of the agent's stop sequences comes nothing
        more; that delta comes whole, as it is the engine that decides what is shown. Raises a BackendError when the
        model fails; after one that came before the first Delta, `write` may be called again. Closing the generator ends
        the call at once.
        """

    def hand_to(self, take: Take | None) -> None:
        """Offer words of the writes from now on to `take` first, each in the turn of the loop in which it comes.

        A delta that it takes is no item of `write`; it is called from no task. Of each write the first words are an
        item, so that a wrapper of the session sees that it speaks; thoughts and calls of tools always are items. None
        ends it. A session may leave it out: then every delta is an item.
        """
        return

    def stop(self) -> None:
        """Ask the write in flight to end soon; what it still yields counts as written. No-op if none is."""

    async def aclose(self) -> None:
        """Let go of everything, at once and without waiting for the network."""


class Room(Protocol):
    """The slots for sessions in an engine that has a fixed number of them."""

    @property
    def serial(self) -> int:
        """Its own number: who needs several rooms reserves the one with the lowest first, so that no two block."""

    @property
    def count(self) -> int:
        """The slots that there are in all."""

    def reserve(self, num_sessions: int) -> AbstractAsyncContextManager[None]:
        """Hold that many slots while in the block, so that a run can't starve half-way; waits its turn.

        Raises ConfigError if there can never be that many.
        """


class Backend(Protocol):
    """One model at one endpoint or in one engine."""

    @property
    def model(self) -> str:
        """The name of the model at its endpoint or engine; shown in results."""

    @property
    def room(self) -> "Room | None":
        """The limit of sessions at once; backends on one engine share it. None: there is no limit."""

    @property
    def takes(self) -> frozenset[Takes | Setting]:
        """The inputs that the model takes besides a plain conversation, and the settings of a request.

        No other inputs are brought before it; a setting that is not there may still come, with a fallback's agent, and
        is then left out.
        """

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:
        """A session for an agent; `written` are words of its answer to continue from (failover, a client's prefill).

        Those that the client began with, `agent.begun`, are in front of them.
        """

    async def aclose(self) -> None:
        """Close what all sessions share."""
