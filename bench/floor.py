"""Measures what a relayed token costs `stairstream serve`, beside the least that it can cost in Python: a bare relay.

python -m bench.floor                             300 streams of 20 tokens a second, each server in five turns
python -m bench.floor --before ../before/src      beside another state of the sources as well
python -m bench.floor --clients 1000 --only ours  the delay of a token with many streams

The relay (`--serve CONFIG`) is two protocols on uvloop, which parse HTTP, decode each event and encode it anew; it
has no deadlines, no limits, no policy, and knows no failure. All are asked in turns by the same clients for the same
answers, one token in each network read; what is compared is the processor time of each server. A server that does not
keep up reads several tokens at once, which costs less: the tokens that a client's read brings show it.
"""

import argparse
import asyncio
import random
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop
import yaml

from bench.arguments import arguments, one_or_more
from bench.server_load import Client, Process, Tokens, chat, our_server, quantile, upstream, use_two_cores
from bench.server_streams import FIRST_S, TOKEN_S, TOKENS
from stairstream.backends.chunks import Chunk

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_BEFORE = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
_AFTER = b',"finish_reason":null}]}\n\n'

START_S, WINDOW_S = 1.0, 6.0
"""All clients begin within START_S; a second later the measurement begins, while all answers are in flight."""

_decode = msgspec.json.Decoder(Chunk).decode
_encode = msgspec.json.Encoder().encode


# The relay


class Upstream(asyncio.Protocol):
    """One call of the endpoint, which is relayed to a client."""

    def __init__(self, client: asyncio.Transport, request: bytes) -> None:
        self._client = client
        self._request = request
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        for event in body.split(b"\n\n"):
            if event == b"data: [DONE]":
                self._send(b"data: [DONE]\n\n")
            elif event:
                choices = _decode(event[6:]).choices
                if choices and choices[0].delta is not None and (text := choices[0].delta.content):
                    self._send(b'%s{"content":%s}%s' % (_BEFORE, _encode(text), _AFTER))

    def on_message_complete(self) -> None:
        self._client.write(b"0\r\n\r\n")
        self._transport.close()

    def _send(self, event: bytes) -> None:
        self._client.write(b"%x\r\n%s\r\n" % (len(event), event))


class Relay(asyncio.Protocol):
    """One client: each of its requests becomes a call of the endpoint."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None and parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._path = f"{parts.path}/chat/completions".encode()
        self._tasks: set[asyncio.Task[object]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._transport.write(_HEAD)
        request = b"POST %s HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (self._path, len(body), body)
        loop = asyncio.get_running_loop()
        call = loop.create_task(loop.create_connection(lambda: Upstream(self._transport, request), *self._address))
        self._tasks.add(call)
        call.add_done_callback(self._tasks.discard)


async def relay(base_url: str) -> None:
    """Serves until it is terminated; prints its address."""
    server = await asyncio.get_running_loop().create_server(lambda: Relay(base_url), "127.0.0.1", 0, backlog=1024)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


# The comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one server did in one turn."""

    us_per_token: float
    tokens_per_read: float
    p50_ms: float
    p99_ms: float


def take_turn(server: Process, num_clients: int) -> Turn:
    """Runs all clients against one server."""
    return asyncio.run(ask_all(server, num_clients))


async def ask_all(server: Process, num_clients: int) -> Turn:
    """One answer for each client; processor time and tokens are those of the window in which all are in flight."""
    chance, answers = random.Random(0), [Tokens() for _ in range(num_clients)]

    async def ask(answer: Tokens) -> None:
        await asyncio.sleep(chance.uniform(0, START_S))
        client = Client(server.base_url)
        await client.ask(chat("single", max_tokens=TOKENS), answer.take)
        client.close()

    async with asyncio.TaskGroup() as tasks:
        for answer in answers:
            tasks.create_task(ask(answer))
        await asyncio.sleep(START_S + 1)
        before_s, seen, reads = server.cpu_s(), [len(one.delays_ms) for one in answers], count_reads(answers)
        await asyncio.sleep(WINDOW_S)
        used_s, reads = server.cpu_s() - before_s, count_reads(answers) - reads
        delays = sorted(d for one, start in zip(answers, seen, strict=True) for d in one.delays_ms[start:])
    lost = sum(abs(TOKENS - len(one.delays_ms)) + one.num_wrong for one in answers)
    assert not lost, f"{lost} tokens lost"
    return Turn(
        us_per_token=used_s / len(delays) * 1e6,
        tokens_per_read=len(delays) / reads,
        p50_ms=quantile(delays, 0.5),
        p99_ms=quantile(delays, 0.99),
    )


def count_reads(answers: Sequence[Tokens]) -> int:
    """Reads that have brought tokens to all clients so far."""
    return sum(one.num_reads for one in answers)


def report(turns: dict[str, list[Turn]]) -> None:
    """Prints the median of each server, with all its turns, and the ratio of each pair of turns."""
    columns = (
        "us a token, median",
        "of all turns",
        "tokens per CPU second",
        "tokens per read",
        "p50 ms",
        "p99 ms",
    )
    print("| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for name, own in turns.items():
        costs = [turn.us_per_token for turn in own]
        median = statistics.median(costs)
        every = ", ".join(f"{cost:.1f}" for cost in costs)
        reads, p50, p99 = (
            statistics.median(getattr(turn, field) for turn in own) for field in ("tokens_per_read", "p50_ms", "p99_ms")
        )
        print(f"| {name} | {median:.1f} | {every} | {1e6 / median:,.0f} | {reads:.2f} | {p50:.1f} | {p99:.1f} |")
    for name, own in turns.items():
        if "ours" in turns and name != "ours":
            ratios = [ours.us_per_token / one.us_per_token for ours, one in zip(turns["ours"], own, strict=True)]
            print(f"\nours over {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def compare(args: argparse.Namespace) -> None:
    """Runs all servers at once, and asks each in its turn."""
    use_two_cores()
    with ExitStack() as stack:
        endpoint = stack.enter_context(upstream(tokens=TOKENS, first_s=FIRST_S, token_s=TOKEN_S))
        start = {
            "ours": lambda: our_server(endpoint),
            "before": lambda: our_server(endpoint, sources=args.before),
            "relay": lambda: our_server(endpoint, ("bench.floor", "--serve")),
        }
        if args.before is None:
            del start["before"]
        servers = {name: stack.enter_context(start[name]()) for name in start if args.only in (None, name)}
        turns: dict[str, list[Turn]] = {name: [] for name in servers}
        for _ in range(args.turns):
            for name, server in servers.items():
                turns[name].append(take_turn(server, args.clients))
    report(turns)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--serve", type=Path, metavar="CONFIG", help="be the relay of this configuration's endpoint")
    parser.add_argument("--before", metavar="SRC", help="the sources of another state of ours")
    parser.add_argument("--only", choices=("ours", "before", "relay"), help="one server alone")
    parser.add_argument("--clients", type=one_or_more, default=300)
    parser.add_argument("--turns", type=one_or_more, default=5)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(relay(yaml.safe_load(args.serve.read_text())["models"]["m"]["base_url"]))
    else:
        compare(args)


if __name__ == "__main__":
    main()
