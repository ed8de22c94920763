"""A Ray cluster of three nodes on this machine, with an application on it that tests break."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stairstream.cluster.manifests import RAY_ENVIRON
from tests.server.asking import Client, RunClient, asking_at
from tests.server.postgres import running_postgres

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
  database: "{database}"
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

    def __init__(self, folder: Path, database: str) -> None:
        """`database` is the URL of a PostgreSQL, as nodes of their own need one."""
        import ray
        from ray.cluster_utils import Cluster

        self.folder = folder
        self._database = database
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

    def fill(self, config: str = CONFIG, **changed: object) -> str:
        """A configuration for this cluster."""
        return config.format(**{"port": PORT, "database": self._database, "log_prompts": "false"} | changed)

    def deploy(self, config: str = CONFIG, **changed: object) -> None:
        """Deploy the application, and return when it answers."""
        from ray import serve

        from stairstream.cluster.application import build

        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(build({"config": self.fill(config, **changed), "file": "testbed.yaml"}), name="stairstream")
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until all deployments have all of their replicas."""
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
    with running_postgres() as postgres:
        bed = Testbed(folder, postgres.new_database())
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


def asking(clients: Sequence[Client | RunClient]) -> AbstractContextManager[None]:
    """As `asking_at`, on the cluster: in another thread, as Ray wants the main one."""
    return asking_at(URL, clients)
