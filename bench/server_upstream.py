"""An endpoint for benchmarks of servers: every token carries its number and the time it was written, at little cost.

python -m bench.server_upstream --tokens 20 --token 0.05      prints its address

A token is ` 7@1f3c`: its number in the answer, and the monotonic clock in nanoseconds, which all processes of a machine
share. A continued answer continues with the next number, so that a reader of the joined answer sees whether a
token was lost or repeated. `--faults 0.1` breaks a tenth of the calls in one of several ways.
"""

import asyncio
import math
import random
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import msgspec

from bench.arguments import arguments, not_negative, one_or_more, zero_or_more

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_BEFORE = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"'
)
_AFTER = b'"},"finish_reason":null}]}\n\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The endpoint's answers: `tokens` each, the first after `first_s`, one every `token_s`; a share of `faults`."""

    tokens: int
    first_s: float
    token_s: float
    faults: float = 0.0


@dataclass(slots=True, kw_only=True)
class Counts:
    """Counts of the endpoint's calls. `left` are answers whose client disconnected."""

    calls: int = 0
    done: int = 0
    left: int = 0
    broken: int = 0
    open_calls: int = 0
    connections: int = 0


class _Message(msgspec.Struct):
    role: str
    content: str = ""


class _Request(msgspec.Struct):
    messages: list[_Message]
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    continue_final_message: bool = False


_decode = msgspec.json.Decoder(_Request).decode


@dataclass(slots=True)
class Answer:
    """One answer in flight."""

    transport: asyncio.Transport
    behaviour: Behaviour
    number: int
    end: int
    is_limited: bool
    due_s: float
    ended: Callable[[str], None]
    breaks_at: int | None = None
    timer: asyncio.TimerHandle | None = None
    written: int = 0
    prompt_tokens: int = 1

    def write_due(self) -> None:
        """Writes the tokens that are due, and schedules itself for the next."""
        loop = asyncio.get_running_loop()
        while self.number < self.end and not self.transport.is_closing():
            if self.number == self.breaks_at:
                self.ended("broken")
                self.transport.abort()
                return
            if self.due_s > loop.time():
                self.timer = loop.call_at(self.due_s, self.write_due)
                return
            body = b"%s %d@%x%s" % (_BEFORE, self.number, time.monotonic_ns(), _AFTER)
            self.transport.write(b"%x\r\n%s\r\n" % (len(body), body))
            self.number += 1
            self.written += 1
            self.due_s += self.behaviour.token_s
        self._finish()

    def _finish(self) -> None:
        if self.transport.is_closing():
            return
        reason = "length" if self.is_limited else "stop"
        end = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        choice = {"index": 0, "delta": {}, "finish_reason": reason}
        body = b"data: %s\n\ndata: %s\n\ndata: [DONE]\n\n" % (
            msgspec.json.encode({**end, "choices": [choice]}),
            msgspec.json.encode({**end, "choices": [], "usage": self.usage()}),
        )
        self.transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        self.ended("done")

    def usage(self) -> dict[str, int]:
        """The usage in OpenAI's format."""
        total = self.prompt_tokens + self.written
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.written, "total_tokens": total}


@dataclass(slots=True)
class Upstream:
    """State that all connections share."""

    behaviour: Behaviour
    counts: Counts = field(default_factory=Counts)
    chance: random.Random = field(default_factory=lambda: random.Random(0))


class Connection(asyncio.Protocol):
    """One connection of a client; supports as much of HTTP as clients of models use."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._counts = upstream.counts
        self._received = b""
        self._answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.connections -= 1
        self._end("left")

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if len(rest) >= length:
            self._received = rest[length:]
            self._take(lines[0], rest[:length])

    def _take(self, line: bytes, body: bytes) -> None:
        if line.startswith(b"get /_counts"):
            self._send(200, msgspec.json.encode(asdict(self._counts)))
        elif line.startswith(b"head "):
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        elif line.startswith(b"get "):
            self._send(200, b'{"object":"list","data":[{"id":"m","object":"model"}]}')
        else:
            self._begin(_decode(body))

    def _begin(self, request: _Request) -> None:
        upstream, behaviour, counts = self._upstream, self._upstream.behaviour, self._counts
        counts.calls += 1
        counts.open_calls += 1
        last = request.messages[-1]
        number = last.content.count("@") if request.continue_final_message and last.role == "assistant" else 0
        limit = request.max_completion_tokens or request.max_tokens or math.inf
        loop = asyncio.get_running_loop()
        answer = self._answer = Answer(
            self._transport,
            behaviour,
            number,
            int(min(number + limit, max(behaviour.tokens, number))),
            number + limit < behaviour.tokens,
            loop.time() + behaviour.first_s,
            self._end,
            prompt_tokens=sum(len(message.content) // 4 for message in request.messages),
        )
        if upstream.chance.random() < behaviour.faults:
            kind = upstream.chance.choice(("500", "429", "reset", "cut"))
            if kind in ("500", "429"):
                self._end("broken")
                self._send(int(kind), b'{"error":{"message":"the benchmark says so"}}')
                return
            answer.breaks_at = number if kind == "reset" else upstream.chance.randrange(number, behaviour.tokens + 1)
        if request.stream:
            self._transport.write(_HEAD)
            answer.write_due()
        else:
            answer.timer = loop.call_at(
                answer.due_s + (answer.end - number) * behaviour.token_s, self._send_whole, answer
            )

    def _send_whole(self, answer: Answer) -> None:
        stamp = time.monotonic_ns()
        text = "".join(f" {number}@{stamp:x}" for number in range(answer.number, answer.end))
        answer.written = answer.end - answer.number
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "length" if answer.is_limited else "stop"}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        self._send(200, msgspec.json.encode({**whole, "usage": answer.usage()}))
        self._end("done")

    def _send(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)

    def _end(self, how: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            if answer.timer is not None:
                answer.timer.cancel()
            self._counts.open_calls -= 1
            setattr(self._counts, how, getattr(self._counts, how) + 1)


async def serve(behaviour: Behaviour, port: int) -> None:
    """Serves until terminated; prints its address."""
    loop = asyncio.get_running_loop()
    upstream = Upstream(behaviour)
    server = await loop.create_server(lambda: Connection(upstream), "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    ended = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, ended.set_result, None)
    async with server:
        await ended


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--port", type=zero_or_more, default=0)
    parser.add_argument("--tokens", type=one_or_more, default=20)
    parser.add_argument("--first", type=not_negative, default=0.0, metavar="SECONDS")
    parser.add_argument("--token", type=not_negative, default=0.0, metavar="SECONDS")
    parser.add_argument("--faults", type=not_negative, default=0.0, metavar="SHARE")
    args = parser.parse_args()
    behaviour = Behaviour(tokens=args.tokens, first_s=args.first, token_s=args.token, faults=args.faults)
    asyncio.run(serve(behaviour, args.port))


if __name__ == "__main__":
    main()
