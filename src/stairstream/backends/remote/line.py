"""A channel as calls and what is heard of them; that the host is gone is heard by every call."""

import asyncio
from collections.abc import Callable

from stairstream.backends.remote.channel import MAX_FRAME_BYTES, Affinity, Channel, Dialler
from stairstream.backends.remote.frames import (
    BadFrame,
    Cancel,
    Cancelled,
    Failed,
    FromHost,
    ToHost,
    encode,
    read_from_host,
    unpack_error,
)
from stairstream.core.errors import (
    BackendError,
    ConnectionFailed,
    MalformedAnswer,
    RequestRejected,
    ServerFailed,
    StreamCut,
)

ANSWER_S = 120.0
"""The time in which a host has to open a session: it may have to load its models first."""

MOST_MOVES = 3
"""How often one session, or one wait for slots, is moved to another host when its host is lost: a prompt that kills
each host that it comes to must not kill all of them for ever."""

Hear = Callable[[FromHost | BackendError], None]


class Line:
    """A channel to a host of a model. `lost` is why it is gone, None while it is there."""

    def __init__(self, channel: Channel, model: str) -> None:
        self.model = model
        self.lost: BackendError | None = None
        self._channel = channel
        self._last_call = 0
        self._heard: dict[int, Hear] = {}
        channel.listen(self._on_frame, self._on_end)

    @classmethod
    async def dial(cls, dialler: Dialler, model: str, affinity: Affinity) -> "Line":
        """A new one. Raises ConnectionFailed."""
        try:
            return cls(await dialler.dial(model, affinity), model)
        except ConnectionError as exc:
            raise ConnectionFailed(f"{model}: no engine host can be reached: {exc}") from exc

    def number(self, hear: Hear) -> int:
        """The number of a new call, and who hears of it."""
        self._last_call += 1
        self._heard[self._last_call] = hear
        return self._last_call

    def forget(self, call: int) -> None:
        """Drop what is still heard of a call."""
        self._heard.pop(call, None)

    def send(self, frame: ToHost) -> None:
        """Send a frame, at once. Raises RequestRejected for one that is too long."""
        data = encode(frame)
        if len(data) > MAX_FRAME_BYTES:
            raise RequestRejected(f"{self.model}: {len(data)} bytes of context are too many for an engine host")
        if self.lost is None:
            self._channel.send(data)

    async def ask(self, make: Callable[[int], ToHost], most_s: float | None = None) -> FromHost:
        """The answer to a frame. Raises what it failed by, and ConnectionFailed after `most_s` seconds."""
        if self.lost is not None:
            raise self.lost
        answer: asyncio.Future[FromHost | BackendError] = asyncio.get_running_loop().create_future()
        call = self.number(lambda heard: None if answer.done() else answer.set_result(heard))
        try:
            self.send(make(call))
            async with asyncio.timeout(most_s):
                found = await answer
        except TimeoutError:
            raise ConnectionFailed(f"{self.model}: its engine host did not answer in {most_s:g} s") from None
        finally:
            self.forget(call)
            if not answer.done() or answer.cancelled():
                self.send(Cancel(call))
        match found:
            case BackendError():
                raise found
            case Failed():
                raise unpack_error(found)
            case Cancelled():
                raise ServerFailed(f"{self.model}: its engine host has given up")
            case _:
                return found

    def close(self) -> None:
        """The host is told, and nothing is heard any more."""
        self._lose(ConnectionFailed(f"{self.model}: closed"))
        self._channel.close()

    def _on_frame(self, data: bytes) -> None:
        try:
            frame = read_from_host(data)
            if (hear := self._heard.get(frame.call)) is not None:
                hear(frame)
        except BadFrame as exc:
            self._lose(MalformedAnswer(f"{self.model}: its engine host sent what is no frame: {exc}"))
            self._channel.close()

    def _on_end(self, why: str) -> None:
        self._lose(StreamCut(f"{self.model}: its engine host is gone{f': {why}' if why else ''}"))

    def _lose(self, error: BackendError) -> None:
        if self.lost is None:
            self.lost = error
            heard, self._heard = self._heard, {}
            for hear in heard.values():
                hear(error)
