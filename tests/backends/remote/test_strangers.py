"""Peers that speak no frames of ours, or those of another version."""

import asyncio

import pytest

from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.frames import (
    VERSION,
    BadFrame,
    Describe,
    Open,
    Reserve,
    Write,
    encode,
    pack_conversation,
)
from stairstream.backends.remote.host import serve_channel
from stairstream.backends.scripted import ScriptedBackend
from stairstream.core.errors import (
    MalformedAnswer,
    RequestRejected,
)
from stairstream.core.messages import question
from stairstream.sim.clock import run
from tests.backends.remote.hosted import AGENT, STEADY, through
from tests.backends.remote.memory import MemoryChannel, MemoryDialler
from tests.engine.staircase import ASK


class _Peer:
    """The far end of a channel that `serve_channel` serves, for frames that no session of ours would send."""

    def __init__(self) -> None:
        self.channel, self.theirs = MemoryChannel(0), MemoryChannel(0)
        self.channel.other, self.theirs.other = self.theirs, self.channel
        self.channel.listen(lambda data: None, lambda why: None)


OPEN = encode(Open(1, VERSION, "m", AGENT, pack_conversation(ASK), ""))


@pytest.mark.parametrize(
    "frames",
    [[b"GET / HTTP/1.1"], [b""], [encode(Write(1, 5))], [OPEN, b"\xff"], [encode(Describe(1, VERSION, "m")), b"\x90"]],
)
def test_a_host_says_in_a_line_what_is_no_frame(frames: list[bytes]) -> None:
    async def main() -> None:
        local = ScriptedBackend(STEADY)
        peer = _Peer()
        for frame in frames:
            peer.channel.send(frame)
        with pytest.raises(BadFrame) as caught:
            await serve_channel(peer.theirs, {"m": local})
        assert "\n" not in str(caught.value)
        assert local.num_sessions == 0

    run(main())


def test_a_session_on_what_is_no_host_fails_by_a_line() -> None:
    async def main() -> None:
        ours, theirs = MemoryChannel(0), MemoryChannel(0)
        ours.other, theirs.other = theirs, ours
        theirs.listen(lambda data: theirs.send(b"HTTP/1.1 400"), lambda why: None)

        class Other:
            def host_of(self, model: str) -> str:
                return "other"

            async def dial(self, model: str, affinity: object) -> MemoryChannel:
                return ours

        with pytest.raises(MalformedAnswer, match="sent what is no frame"):
            await RemoteBackend.reach(Other(), "m")

    run(main())


def test_another_version_is_refused_by_a_line() -> None:
    async def main() -> None:
        peer = _Peer()
        heard: list[bytes] = []
        peer.channel._listener = (heard.append, lambda why: None)
        peer.channel.send(encode(Reserve(1, VERSION + 1, "m", 1, True)))
        serving = asyncio.ensure_future(serve_channel(peer.theirs, {"m": ScriptedBackend(STEADY)}))
        await asyncio.sleep(1)
        assert b"speaks version" in heard[0]
        peer.channel.close()
        await serving

    run(main())


def test_a_session_too_long_to_send_is_refused_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stairstream.backends.remote.line.MAX_FRAME_BYTES", 2000)

    async def act(dialler: MemoryDialler, backend: RemoteBackend, local: ScriptedBackend) -> None:
        with pytest.raises(RequestRejected, match="bytes of context are too many"):
            await backend.open(AGENT, question("x" * 3000))
        await asyncio.sleep(1)
        assert dialler.num_served == 0

    through(STEADY, act)
