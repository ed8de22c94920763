"""An upstream that says exact bytes in exact packets over TCP, whatever HTTP libraries would have to say to them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

PACE_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One answer: its packets, a number for a pause; and what becomes of the connection behind the last of them."""

    packets: tuple[bytes | float, ...]
    status: str = "200 OK"
    headers: Mapping[str, str] = field(default_factory=dict)
    end: Literal["whole", "cut", "open"] = "whole"


Plan = Says | Callable[[Mapping[str, Any]], Says]


@dataclass(slots=True)
class Upstream:
    """Where it is, and which models were asked so far."""

    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def saying(plans: Mapping[str, Plan]) -> AsyncIterator[Upstream]:
    """Serve models by name until the block is left."""
    upstream = Upstream(0)
    open_connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while await _answer(reader, writer, plans, upstream):
                pass
        open_connections.discard(task)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**24)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, plans: Mapping[str, Plan], upstream: Upstream
) -> bool:
    """One request and its answer; whether the connection can be used again."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    body = await reader.readexactly(length)
    if not head.startswith(b"POST"):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        return True
    request = msgspec.json.decode(body)
    upstream.asked.append(request["model"])
    plan = plans[request["model"]]
    says = plan if isinstance(plan, Says) else plan(request)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = {"content-type": "text/event-stream", **says.headers}
    told = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {says.status}\r\n{told}transfer-encoding: chunked\r\n\r\n".encode())
    for packet in says.packets:
        if isinstance(packet, float):
            await asyncio.sleep(packet)
        elif packet:
            writer.write(b"%x\r\n%s\r\n" % (len(packet), packet))
            await writer.drain()
            await asyncio.sleep(PACE_S)
    if says.end == "open":
        await reader.read(1)
        return False
    if says.end == "whole":
        writer.write(b"0\r\n\r\n")
    return says.end == "whole"


# What well-behaved endpoints say


def data(value: object) -> bytes:
    """One event; bytes as they are."""
    return b"data: " + (value if isinstance(value, bytes) else msgspec.json.encode(value)) + b"\n\n"


def delta(text: str, **more: object) -> bytes:
    """A piece of the answer."""
    return data({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **more}]})


def ending(reason: object = "stop", **more: object) -> bytes:
    """The event that says the end."""
    return data({"choices": [{"index": 0, "delta": {}, "finish_reason": reason, **more}]})


DONE = data(b"[DONE]")
FINE = Says(packets=(delta("All "), delta("is fine."), ending(), DONE))
FINE_TEXT = "All is fine."
