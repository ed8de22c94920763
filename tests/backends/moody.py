"""Models that choose a script, or the items of a write, for each session; and what one write of a session yields."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, ScriptedSession
from stairstream.core.context import Context
from stairstream.core.errors import BackendError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Began, Chunk, Ended, WriteItem
from tests.engine.staircase import ASK


class Moody(ScriptedBackend):
    """Chooses a script anew for each session."""

    def __init__(self, choose: Callable[[int], Script], model: str) -> None:
        super().__init__(choose(0), model)
        self._choose = choose
        self._opened = 0

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self.script = self._choose(self._opened)
        self._opened += 1
        self.num_sessions += 1
        return _OwnScript(self, Context(agent=agent, conversation=conversation, written=written), self.script)


class _OwnScript(ScriptedSession):
    def __init__(self, backend: ScriptedBackend, context: Context, script: Script) -> None:
        own = ScriptedBackend(script, backend.model)
        own.calls = backend.calls
        super().__init__(own, context)
        self._parent = backend

    async def aclose(self) -> None:
        if not self._is_closed:
            self._parent.num_sessions -= 1
        await super().aclose()


async def write(backend: Backend, stop_at_s: float | None = None) -> list[WriteItem]:
    """What one write yields, with a stop at that time."""
    session = await backend.open(Agent(name="a", model="m"), ASK)
    if stop_at_s is not None:
        asyncio.get_running_loop().call_later(stop_at_s, session.stop)
    return [item async for item in session.write(100)]


async def write_all(session: Session) -> list[WriteItem]:
    return [item async for item in session.write(100)]


def end_of(items: list[WriteItem]) -> Ended:
    assert isinstance(items[-1], Ended)
    return items[-1]


def failing(kind: FaultKind, calls: int | None = 1, retry_after_s: float | None = None) -> ScriptedBackend:
    fault = Fault(kind=kind, calls=calls, retry_after_s=retry_after_s)
    return ScriptedBackend(Script(words=("a", " b"), first_token_s=0.5, fault=fault), "m")


Telling = list[tuple[float, WriteItem | BackendError]]


class Told(ScriptedBackend):
    """Each write, whatever its session, yields these items, or raises them, each after its delay."""

    def __init__(self, *told: Telling) -> None:
        super().__init__(Script(words=("a",)), "m")
        self._told = list(told)
        self.read: list[list[Chunk]] = []

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        session = await super().open(agent, conversation, written)
        session.write = self._write  # type: ignore[method-assign]
        session.read = self._read  # type: ignore[method-assign]
        return session

    def _write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        return _tell(self._told.pop(0))

    async def _read(self, chunks: Sequence[Chunk]) -> None:
        self.read.append(list(chunks))


async def _tell(told: Telling) -> AsyncGenerator[WriteItem, None]:
    for delay_s, item in told:
        await asyncio.sleep(delay_s)
        if isinstance(item, BackendError):
            raise item
        yield item


def began(prompt_tokens: int) -> Began:
    return Began(layout="grouped", why="", prompt_tokens=prompt_tokens, is_estimate=False)
