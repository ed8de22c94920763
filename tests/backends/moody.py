"""Scripted models that choose a script for each session, and what one write of a session yields."""

import asyncio
from collections.abc import Callable

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted import Fault, FaultKind, Script, ScriptedBackend, ScriptedSession
from stairstream.core.context import Context
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Ended, WriteItem
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
