"""A Ray cluster of three nodes on this machine, with an application on it that tests break."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from stairstream.cluster.manifests import RAY_ENVIRON
from stairstream.core.events import Event, Noted, RunEnded, Wrote
from stairstream.server.wire.events import decode_event_json

PORT = 18_230
REST_PORT = 18_265
URL = f"http://127.0.0.1:{PORT}"
READY_S = 120.0
"""For anything that Ray has to start, on a busy machine."""

ENVIRON = {
    **RAY_ENVIRON,
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}

CONFIG = """
models:
  words: {{backend: scripted, length: 150, token_s: 0.02, first_token_s: 0.1, replicas: {{count: 2, cpus: 0.5}}}}
pipelines:
  single: {{topology: single, model: words}}
  mix: {{topology: mixture, proposers: [words, words, words], aggregator: words}}
  kept: {{topology: single, model: words, durable: true}}
server:
  port: {port}
  database: {folder}/server.db
  drain_s: 20
  log_prompts: {log_prompts}
  replicas: {{count: 2, cpus: 0.5}}
"""
ANSWER = " ".join(f"words_{number}" for number in range(1, 151))
"""What every pipeline says, whatever breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A process of a deployment."""

    name: str
    pid: int
    node: str


class Testbed:
    """The cluster. What it starts is ended with it."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self.folder = folder
        head = {
            "num_cpus": 2,
            "object_store_memory": 100 * 2**20,
            "include_dashboard": True,
            "dashboard_port": REST_PORT,
        }
        self._cluster = Cluster(initialize_head=True, connect=False, head_node_args=head)
        self._nodes = [self._add_node() for _ in range(2)]
        ray.init(address=self._cluster.address, logging_level="warning", log_to_driver=False)

    def _add_node(self) -> Any:
        return self._cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)

    def deploy(self, **changed: str) -> None:
        """Deploy the application, and return when it answers."""
        from ray import serve

        from stairstream.cluster.application import build

        values = {"port": PORT, "folder": self.folder, "log_prompts": "false"} | changed
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(build({"config": CONFIG.format(**values), "file": "testbed.yaml"}), name="stairstream")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until both deployments have all of their replicas."""
        from ray import serve

        def is_ready() -> bool:
            app = serve.status().applications["stairstream"]
            states = [one.replica_states for one in app.deployments.values()]
            return app.status == "RUNNING" and all(states == {"RUNNING": 2} for states in states)

        wait_for(is_ready)

    def replicas(self, deployment: str) -> list[Replica]:
        """Its processes that live."""
        return self._actors(f"SERVE_REPLICA::stairstream#{deployment}#")

    def controller(self) -> Replica:
        """Serve's own process, which places and heals."""
        (found,) = self._actors("SERVE_CONTROLLER_ACTOR")
        return found

    def _actors(self, prefix: str) -> list[Replica]:
        from ray._private.state import actors

        return [
            Replica(name=one["Name"], pid=one["Pid"], node=one["Address"]["NodeID"])
            for one in actors(actor_state_name="ALIVE").values()
            if one["Name"].startswith(prefix)
        ]

    def node_without_head(self, deployment: str) -> Any:
        """A node with a replica of the deployment that is not the head's."""
        there = {one.node for one in self.replicas(deployment)}
        return next(node for node in self._nodes if node.node_id in there)

    def lose(self, node: Any) -> None:
        """All processes of a node are killed."""
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def add(self) -> None:
        """A new node."""
        self._nodes.append(self._add_node())

    def close(self) -> None:
        """End all that was started."""
        import ray
        from ray import serve

        try:
            serve.shutdown()
        finally:
            ray.shutdown()
            self._cluster.shutdown()


@contextmanager
def running(folder: Path) -> Iterator[Testbed]:
    """A testbed with the application on it."""
    import ray.serve  # read what is in the environment now: the rest is for the cluster's processes

    assert ray.serve
    os.environ.update(ENVIRON)
    os.environ.update(STAIRSTREAM_CACHE=str(folder / "cache"), STAIRSTREAM_DATA=str(folder / "data"))
    bed = Testbed(folder)
    try:
        bed.deploy()
        yield bed
    finally:
        bed.close()


def kill(replica: Replica) -> None:
    """As a machine that is out of memory would."""
    os.kill(replica.pid, signal.SIGKILL)


def wait_for(is_so: Callable[[], bool], most_s: float = READY_S) -> None:
    """Until it is so."""
    ends_s = time.monotonic() + most_s
    while not is_so():
        assert time.monotonic() < ends_s, "it took too long"
        time.sleep(0.25)


class Client:
    """One answer by `/v1/chat/completions`, as it comes."""

    def __init__(self, pipeline: str, question: str) -> None:
        self.text = ""
        self.finish: str | None = None
        self.error: str | None = None
        self._body = {"model": pipeline, "stream": True, "messages": [{"role": "user", "content": question}]}

    async def ask(self, http: aiohttp.ClientSession) -> None:
        async with http.post(f"{URL}/v1/chat/completions", json=self._body) as response:
            if response.status != 200:
                self.error = f"{response.status} {await response.text()}"
                return
            async for line in response.content:
                if line.startswith(b"data: {"):
                    self._take(json.loads(line[6:]))

    def _take(self, data: dict[str, Any]) -> None:
        if "error" in data:
            self.error = str(data["error"])
            return
        for choice in data["choices"]:
            self.text += choice["delta"].get("content") or ""
            self.finish = choice.get("finish_reason") or self.finish


class RunClient:
    """One run by `/v1/runs`, by a client that comes back until it has the last event."""

    def __init__(self, pipeline: str, question: str) -> None:
        self.events: list[tuple[int, Event, str]] = []
        self.num_returns = 0
        self._run = ""
        self._body = {"model": pipeline, "messages": [{"role": "user", "content": question}]}

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(text for _, event, text in self.events if isinstance(event, Wrote))

    @property
    def is_over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1][1], RunEnded)

    @property
    def notes(self) -> list[str]:
        """The kinds of notes."""
        return [event.note.kind for _, event, _ in self.events if isinstance(event, Noted)]

    async def ask(self, http: aiohttp.ClientSession) -> None:
        while not self.is_over:
            try:
                await self._listen(http)
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.1)

    async def _listen(self, http: aiohttp.ClientSession) -> None:
        if not self.events:
            listening = http.post(f"{URL}/v1/runs", json=self._body)
        else:
            self.num_returns += 1
            last = {"last-event-id": str(self.events[-1][0])}
            listening = http.get(f"{URL}/v1/runs/{self._run}/events", headers=last)
        async with listening as response:
            if response.status != 200:
                return
            self._run = response.headers["x-stairstream-run"]
            number = -1
            async for line in response.content:
                if line.startswith(b"id: "):
                    number = int(line[4:])
                elif line.startswith(b"data: "):
                    self.events.append((number, *decode_event_json(line[6:])))


@contextmanager
def asking(clients: Sequence[Client | RunClient]) -> Iterator[None]:
    """The clients ask now, in another thread: Ray wants the main one. Until the block's end all have their answers."""
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(lambda: asyncio.run(_ask_all(clients)))
        yield
        asked.result(timeout=READY_S)


async def _ask_all(clients: Sequence[Client | RunClient]) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(READY_S)) as http:
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.ask(http))
