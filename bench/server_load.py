"""Shared by the benchmarks of servers: processes to measure, and clients that cost little themselves.

A client is one kept connection of plain asyncio; it reads bytes, without parsing JSON.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import yaml

STAMP = re.compile(rb" (\d+)@([0-9a-f]+)")
"""A token of `bench.server_upstream`: its number, and the time that it was written."""

LIMITS = {"runs": 4000, "connections": 4000}
"""Of our server: above what any benchmark asks for at once."""

_LISTENING = re.compile(r"listening on (http://[\w.\[\]:]+\d)")

Take = Callable[[int, bytes], None]
"""Called with the monotonic clock in nanoseconds and the bytes of an answer, as they come."""


class AskFailed(Exception):
    """The answer was an error, or was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running server process."""

    base_url: str
    pid: int

    def cpu_s(self) -> float:
        """Processor time so far, in seconds, of the process and of its workers, if it has some."""
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_cpu_s(pid) for pid in (self.pid, *map(int, workers)))

    def rss_mb(self) -> float:
        """Resident memory in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def num_files(self) -> int:
        """Open file descriptors, sockets among them."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def use_two_cores() -> None:
    """Binds this process and its children to two cores, as the targets require; SIGTERM ends all of them."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


@contextmanager
def upstream(*, tokens: int, first_s: float = 0.0, token_s: float = 0.0, faults: float = 0.0) -> Iterator[Process]:
    """Runs `bench.server_upstream` in a process of its own."""
    given = ("--tokens", tokens, "--first", first_s, "--token", token_s, "--faults", faults)
    command = [sys.executable, "-m", "bench.server_upstream", *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Process(base_url=process.stdout.readline().strip(), pid=process.pid)
        finally:
            process.terminate()


@contextmanager
def written(config: Mapping[str, object], name: str = "server.yaml") -> Iterator[Path]:
    """Writes a configuration to a temporary file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(yaml.safe_dump(dict(config)))
        yield file


def pipelines(endpoint: Process) -> dict[str, object]:
    """A single model and a mixture of three proposers, all at one endpoint."""
    model = {"backend": "openai", "model": "m", "base_url": endpoint.base_url, "continues": "flag", "api_key": "none"}
    return {
        "models": {name: model for name in ("p1", "p2", "p3", "m")},
        "pipelines": {
            "single": {"topology": "single", "model": "m"},
            "mix": {"topology": "mixture", "proposers": ["p1", "p2", "p3"], "aggregator": "m"},
        },
    }


@contextmanager
def our_server(
    endpoint: Process | Mapping[str, object],
    program: Sequence[str] = ("stairstream", "serve", "-c"),
    sources: str | None = None,
) -> Iterator[Process]:
    """Runs `stairstream serve` on the pipelines `single` and `mix` or on a given configuration, or another module that
    prints its address; from other `sources` than these if they are given."""
    given = pipelines(endpoint) if isinstance(endpoint, Process) else endpoint
    keys = given.get("server")
    config = {**given, "server": {**(keys if isinstance(keys, Mapping) else {}), "port": 0, "limits": LIMITS}}
    with written(config) as file, (file.parent / "log").open("w") as log:
        command = [sys.executable, "-m", *program, str(file)]
        environment = {**os.environ, "XDG_DATA_HOME": str(file.parent)}  # a database that no other server has written
        if sources is not None:
            environment["PYTHONPATH"] = sources
        with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
            try:
                yield Process(base_url=f"{_wait_listening(file.parent / 'log', process)}/v1", pid=process.pid)
            finally:
                process.terminate()
                _complain(file.parent / "log")


def _wait_listening(log: Path, process: "subprocess.Popen[bytes]", within_s: float = 30) -> str:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s and process.poll() is None:
        if found := _LISTENING.search(log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"the server did not start:\n{log.read_text()}")


def _complain(log: Path) -> None:
    """Prints what a server wrote besides its address and its request log."""
    usual = ("stairstream: ", '{"at"')
    lines = [line for line in log.read_text().splitlines() if not line.startswith(usual) or '"level":"error"' in line]
    if lines:
        print("\n".join(lines[:40]), file=sys.stderr)


@contextmanager
def litellm_proxy(
    base_url: str, command: str, port: int, models: Mapping[str, str] = MappingProxyType({"single": "m"})
) -> Iterator[Process]:
    """Runs LiteLLM's proxy with one worker in front of an endpoint; its models by the proxy's names for them."""
    listed = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{model}", "api_base": base_url, "api_key": "none"},
        }
        for name, model in models.items()
    ]
    config = {"model_list": listed}
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    quiet["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # ours has no keys either
    with written(config) as file, (file.parent / "log").open("w") as log:
        arguments = ["--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        with subprocess.Popen(
            [command, *arguments], stdout=log, stderr=log, env={**os.environ, **quiet}, cwd=file.parent
        ) as process:
            try:
                wait_until_alive(f"http://127.0.0.1:{port}/health/liveliness", process)
                yield Process(base_url=f"http://127.0.0.1:{port}/v1", pid=process.pid)
            except TimeoutError:
                raise SystemExit(f"LiteLLM did not start:\n{(file.parent / 'log').read_text()[-2000:]}") from None
            finally:
                process.terminate()


def wait_until_alive(url: str, process: subprocess.Popen[bytes], within_s: float = 120) -> None:
    """Until an address answers. Raises TimeoutError if it never does, or the process has ended."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)  # a foreign program without a sign that it is ready
    raise TimeoutError


def chat(model: str, **fields: object) -> bytes:
    """The body of a request for a streamed answer."""
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    return json.dumps({"model": model, "messages": messages, "stream": True, **fields}).encode()


class Client(asyncio.Protocol):
    """One kept connection; sends one request at a time."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None and parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._path = parts.path
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] | None = None
        self._take: Take = _ignore

    async def ask(
        self, body: bytes, take: Take, path: str = "/chat/completions", method: str = "POST", headers: str = ""
    ) -> None:
        """Sends a request, gives its answer to `take` as it comes, and returns after its last byte.

        `headers` are added to the request; each ends with CRLF.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._transport, _ = await loop.create_connection(lambda: self, *self._address)
        self._answered, self._take, self._tail, self._due = loop.create_future(), take, b"", -1
        head = f"{method} {self._path}{path} HTTP/1.1\r\nHost: {self._address[0]}:{self._address[1]}\r\n{headers}"
        head += f"Content-Type: application/json\r\nAuthorization: Bearer none\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        await self._answered

    def close(self) -> None:
        """Closes the connection, also in the middle of an answer."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail("the connection was lost")

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._due < 0:
            head, _, _ = data.partition(b"\r\n\r\n")
            if not data.startswith(b"HTTP/1.1 200"):
                self._fail(data[:300].decode(errors="replace"))
                self.close()
                return
            length = re.search(rb"content-length: *(\d+)", head.lower())
            self._due = len(head) + 4 + int(length[1]) if length else 0
        self._take(now, data)
        if self._due:
            self._due -= len(data)
            is_done = self._due == 0
        else:
            self._tail = (self._tail + data)[-7:]
            is_done = self._tail == b"\r\n0\r\n\r\n"
        if is_done and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _fail(self, text: str) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(AskFailed(text))


def _ignore(now_ns: int, data: bytes) -> None:
    """Ignores the answer."""


class Tokens:
    """Reads the tokens of one answer: the delay of each, and whether any is missing."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self.first_ns: int | None = None
        self.num_wrong = self.num_reads = 0
        self.is_done = False
        self._rest = b""

    def take(self, now_ns: int, data: bytes) -> None:
        """Reads bytes of a stream of chunks; a Take."""
        data = self._rest + data
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            self._rest = data
            return
        self._rest = data[end:]
        self.num_reads += 1
        for number, stamp in STAMP.findall(data[:end]):
            self.num_wrong += int(number) != len(self.delays_ms)
            self.delays_ms.append((now_ns - int(stamp, 16)) / 1e6)
            if self.first_ns is None:
                self.first_ns = now_ns
        self.is_done = self.is_done or b"data: [DONE]" in data


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; nan without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
