"""One model on an engine in another process, as a backend."""

from stairstream.backends.openings import key_of
from stairstream.backends.remote.channel import Affinity, Dialler
from stairstream.backends.remote.frames import VERSION, Describe, Described
from stairstream.backends.remote.line import ANSWER_S, Line
from stairstream.backends.remote.room import RemoteRoom, reserved_now, serial_of
from stairstream.backends.remote.session import Opener, RemoteSession
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation


class RemoteBackend:
    """A model that a host has; what it is, the host has said."""

    def __init__(self, dialler: Dialler, name: str, described: Described) -> None:
        self.model = described.model
        self.takes = described.takes
        self.room: RemoteRoom | None = None
        if described.room is not None and described.slots is not None:
            serial = serial_of(dialler.host_of(name), described.room)
            self.room = RemoteRoom(dialler=dialler, serial=serial, count=described.slots, model=name)
        self._dialler = dialler
        self._name = name

    @classmethod
    async def reach(cls, dialler: Dialler, name: str) -> "RemoteBackend":
        """The model that hosts know by this name. Raises a BackendError if none can be reached, or none has it."""
        line = await Line.dial(dialler, name, Affinity())
        try:
            described = await line.ask(lambda call: Describe(call, VERSION, name), ANSWER_S)
        finally:
            line.close()
        assert isinstance(described, Described)
        return cls(dialler, name, described)

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> RemoteSession:
        """A session on a host of the model. Raises a BackendError if none can be reached, or it can't open one."""
        reserved = reserved_now.get()
        opener = Opener(
            dialler=self._dialler,
            name=self._name,
            agent=agent,
            conversation=conversation,
            affinity=Affinity(prefix=key_of(conversation), run=reserved.run if reserved else ""),
            reserved=reserved,
        )
        return RemoteSession(opener, *await opener.open(written, ()), written)

    async def aclose(self) -> None:
        """Nothing is shared but the host, which is not ours to end."""
