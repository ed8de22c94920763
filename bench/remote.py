"""Measures what a remote session costs: processor time per token, and the delay of a token, beside one in process.

python -m bench.remote                            100 sessions of 20 tokens a second, in five turns
python -m bench.remote --sessions 300 --token-s 0.02

The model is a timer that writes the time into its tokens. It is asked in this process, and in a host behind a unix
socket, in turns; words are taken as an engine takes them. The host's processor time counts too: of the time in process
most is the timer's own.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.arguments import arguments, not_negative, one_or_more
from bench.server_load import Process, quantile, use_two_cores
from stairstream.backends.base import Backend, Session
from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.unix import UnixDialler, listen_at, serving_at
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, question
from stairstream.core.session import Began, Chunk, Delta, Ended, WriteItem

TOKENS = 200
AGENT = Agent(name="a", model="m")


class TimerSession(Session):
    """Writes the time, again and again."""

    def __init__(self, token_s: float) -> None:
        self._token_s = token_s

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Nothing to read."""

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """A word every `token_s` seconds."""
        yield Began(layout="grouped", why="", prompt_tokens=1, is_estimate=False)
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        for _ in range(limit):
            due_s += self._token_s
            await asyncio.sleep(due_s - loop.time())
            yield Delta(f" {time.monotonic_ns()}")
        yield Ended(reason="limit")

    def stop(self) -> None:
        """It is never asked to."""
        return

    async def aclose(self) -> None:
        """Nothing is held."""


class Timer:
    """A model that writes the time."""

    model, room = "m", None
    takes = frozenset()  # type: ignore[var-annotated]

    def __init__(self, token_s: float) -> None:
        self._token_s = token_s

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> TimerSession:
        """A new session."""
        return TimerSession(self._token_s)

    async def aclose(self) -> None:
        """Nothing is shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Microseconds of processor time per token, here and in the host, and the delays of tokens in milliseconds."""

    here_us: float
    host_us: float
    delays_ms: Sequence[float]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sessions", type=one_or_more, default=100)
    parser.add_argument("--token-s", type=not_negative, default=0.05)
    parser.add_argument("--turns", type=one_or_more, default=5)
    parser.add_argument("--serve", type=Path, help="be the host at this path")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if args.serve is not None:
            runner.run(_serve(args.serve, args.token_s))
            return
        use_two_cores()
        turns = runner.run(_measure(args.sessions, args.token_s, args.turns))
    print("| session | us per token | of them here | tokens per CPU s | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    for name, found in turns.items():
        here, both = (
            statistics.median(each) for each in zip(*((t.here_us, t.here_us + t.host_us) for t in found), strict=True)
        )
        delays = [delay for turn in found for delay in turn.delays_ms]
        p50, p99 = quantile(delays, 0.5), quantile(delays, 0.99)
        print(f"| {name} | {both:.1f} | {here:.1f} | {1e6 / both:,.0f} | {p50:.2f} | {p99:.2f} |")


async def _measure(sessions: int, token_s: float, turns: int) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {"in process": [], "remote": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "host"
        with _host(path, token_s) as process:
            remote = await RemoteBackend.reach(UnixDialler(path), "m")
            backends: dict[str, Backend] = {"in process": Timer(token_s), "remote": remote}
            for _ in range(turns):
                for name, backend in backends.items():
                    found[name].append(await _take_turn(backend, sessions, process))
    return found


@contextmanager
def _host(path: Path, token_s: float) -> Iterator[Process]:
    command = [sys.executable, "-m", "bench.remote", "--serve", str(path), "--token-s", str(token_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Process(base_url="", pid=process.pid)
        finally:
            process.terminate()


async def _serve(path: Path, token_s: float) -> None:
    with listen_at(path) as listening:
        async with serving_at(listening, {"m": Timer(token_s)}):
            print("ready", flush=True)
            await asyncio.get_running_loop().create_future()


async def _take_turn(backend: Backend, sessions: int, host: Process) -> Turn:
    delays: list[float] = []
    here_s, host_s = time.process_time(), host.cpu_s()
    await asyncio.gather(*(_listen(backend, k / sessions, delays) for k in range(sessions)))
    here_s, host_s = time.process_time() - here_s, host.cpu_s() - host_s
    return Turn(here_us=here_s / len(delays) * 1e6, host_us=host_s / len(delays) * 1e6, delays_ms=delays)


async def _listen(backend: Backend, after_s: float, delays: list[float]) -> None:
    def take(delta: Delta) -> bool:
        delays.append((time.monotonic_ns() - int(delta.text)) / 1e6)
        return True

    await asyncio.sleep(after_s)
    session = await backend.open(AGENT, question("?"))
    session.hand_to(take)
    async for item in session.write(TOKENS):
        if isinstance(item, Delta):
            take(item)
    await session.aclose()


if __name__ == "__main__":
    main()
