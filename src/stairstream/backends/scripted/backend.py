"""One scripted model, as a backend."""

from collections.abc import Iterable

from stairstream.backends.scripted.script import Script
from stairstream.backends.scripted.session import Call, ScriptedSession
from stairstream.core.context import Context
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Takes


class ScriptedBackend:
    """One scripted model. `calls` lists what it was sent; `num_writing` is the number of calls now in flight."""

    room = None  # there is always room

    def __init__(self, script: Script, model: str = "scripted", takes: Iterable[Takes] = ()) -> None:
        self.script = script
        self.model = model
        self.takes = frozenset(takes)
        self.calls: list[Call] = []
        self.num_writing = 0
        self.num_sessions = 0

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        """A session that says the script's words from after `written`."""
        self.num_sessions += 1
        return ScriptedSession(self, Context(agent=agent, conversation=conversation, written=written))

    async def aclose(self) -> None:
        """Nothing is shared."""
