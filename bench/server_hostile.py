"""Measures how long one endpoint that sends bombs blocks all other clients: `/healthz` while its answer is read.

python -m bench.server_hostile            one line for each input: worst freeze, memory, how the answer ended
"""

import asyncio
import gzip
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from bench.arguments import arguments
from bench.server_load import AskFailed, Client, Process, chat, our_server

_MB = 2**20
_TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"a "}}]}\n\n'
_LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

_PACKED = {"content-encoding": "gzip"}
INPUTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "fine": ("64 pieces and an end", {}),
    "gzip line": ("300 kB of gzip: one line of 300 MB", _PACKED),
    "gzip comments": ("300 kB of gzip: 300 MB of comments", _PACKED),
    "gzip body": ("300 kB of gzip: a JSON string of 300 MB", _PACKED),
    "no newline": ("64 MB without the end of a line", {}),
    "byte by byte": ("1 MB without the end of a line, a byte a packet", {}),
    "comments": ("64 MB of comments", {}),
    "empty events": ("16 MB of empty objects", {}),
    "odd events": ("16 MB of pieces with NaN", {}),
    "a long event": ("one event of 7 MB: numbers in an unused field", {}),
    "a long body": ("64 MB of JSON", {}),
    "nested": ("one event of 100,000 brackets", {}),
}


def pieces(name: str) -> Iterator[bytes]:
    """The body of an input."""
    match name:
        case "gzip line":
            yield gzip.compress(b"data: " + b"x" * (300 * _MB))
        case "gzip comments":
            yield gzip.compress(b": x\n\n" * (60 * _MB))
        case "gzip body":
            yield gzip.compress(b'{"choices":[{"message":{"content":"' + b"x" * (300 * _MB) + b'"}}]}')
        case "no newline":
            yield from (b"x" * 65536 for _ in range(1024))
        case "byte by byte":
            yield from (b"x" for _ in range(_MB))
        case "comments":
            yield from (b": x\n\n" * 13107 for _ in range(1024))
        case "empty events":
            yield from (b"data: {}\n\n" * 6553 for _ in range(256))
        case "odd events":
            yield from (b'data: {"choices":[],"logprobs":[NaN]}\n\n' * 1638 for _ in range(256))
        case "a long event":
            yield b'data: {"x":[' + b"1," * (3 * _MB + _MB // 2) + b"1]}\n\n" + _TEXT + _LAST
        case "a long body":
            yield b'{"x":['
            yield from (b"1," * 32768 for _ in range(1024))
        case "nested":
            yield b'data: {"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n" + _TEXT + _LAST
        case _:
            yield _TEXT * 64 + _LAST


async def serve_inputs() -> None:
    """Runs the endpoint, whose path names the input; prints its port."""
    bodies = {name: list(pieces(name)) for name in INPUTS if name.startswith("gzip")}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            name = head.split(" ")[1].split("/")[1].replace("_", " ")
            headers = "".join(f"{key}: {value}\r\n" for key, value in INPUTS[name][1].items())
            writer.write(
                f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{headers}connection: close\r\n\r\n".encode()
            )
            for piece in bodies.get(name) or pieces(name):
                writer.write(piece)
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def watch(base_url: str, freezes: list[float]) -> None:
    """Asks `/healthz` again and again, and records how long each takes."""
    client = Client(base_url.removesuffix("/v1"))
    while True:
        start_s = time.perf_counter()
        await client.ask(b"", lambda *_: None, "/healthz", "GET")
        freezes.append(time.perf_counter() - start_s)
        await asyncio.sleep(0.001)


async def measure(server: Process, name: str) -> str:
    """Asks for one answer, and measures how long other requests wait meanwhile."""
    freezes: list[float] = []
    answer: list[bytes] = []
    watching = asyncio.ensure_future(watch(server.base_url, freezes))
    await asyncio.sleep(0.2)
    freezes.clear()
    before_mb, most_mb = server.rss_mb(), 0.0
    begun_s = time.perf_counter()
    answering = asyncio.ensure_future(
        Client(server.base_url).ask(chat(name.replace(" ", "_")), lambda _, data: answer.append(data))
    )
    while not answering.done():
        most_mb = max(most_mb, server.rss_mb())
        await asyncio.wait([answering], timeout=0.02)
        if time.perf_counter() - begun_s > 60:
            answering.cancel()
    lasted_s = time.perf_counter() - begun_s
    await asyncio.sleep(0.1)
    watching.cancel()
    how = "stop" if b'"finish_reason":"stop"' in b"".join(answer) else "an error"
    if not answering.cancelled() and not isinstance(answering.exception(), AskFailed | None):
        await answering
    worst_ms = 1000 * max(freezes)
    return f"| {INPUTS[name][0]} | {worst_ms:.0f} | {max(0.0, most_mb - before_mb):.0f} | {lasted_s:.2f} | {how} |"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--serve", action="store_true", help="be the endpoint")
    parser.add_argument("--only", default="", metavar="WORD", help="only inputs with this word")
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve_inputs())
        return
    command = [sys.executable, "-m", "bench.server_hostile", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as endpoint:
        try:
            assert endpoint.stdout is not None
            port = int(endpoint.stdout.readline())
            config = config_for(port)
            print("| input | worst /healthz ms | memory MB | s | ends with |\n|---|---|---|---|---|")
            for name in INPUTS:
                if args.only in name:
                    with our_server(config) as server:
                        print(asyncio.run(measure(server, name)), flush=True)
        finally:
            endpoint.terminate()


def config_for(port: int) -> dict[str, object]:
    """A pipeline for each input."""
    names = [name.replace(" ", "_") for name in INPUTS]
    keys = {"backend": "openai", "model": "m", "continues": "flag", "attempts": 1, "api_key": "none"}
    return {
        "models": {name: {**keys, "base_url": f"http://127.0.0.1:{port}/{name}"} for name in names},
        "pipelines": {name: {"topology": "single", "model": name} for name in names},
    }


if __name__ == "__main__":
    main()
