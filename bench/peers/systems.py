"""Everything that is asked, ours and theirs, behind one call: a question of a scenario in, its times out."""

import asyncio
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.endpoint import Endpoint, backends_at
from bench.peers.environments import ROOT, install
from bench.peers.recipes.turns import Answer, Task
from bench.server_load import litellm_proxy, wait_until_alive
from stairstream.backends.base import Backend
from stairstream.core.events import Wrote
from stairstream.core.graph import Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import mixture, single
from stairstream.engine.pace import default_pace
from stairstream.engine.run import open_run

Ask = Callable[[Task], Awaitable[Answer]]

FREE = "stairstream (8, 2, inf)"
BALANCED = "stairstream balanced"
ALONE = "one model alone"
OURS: Mapping[str, Policy] = {
    "stairstream wait": PRESETS["wait"],
    BALANCED: PRESETS["balanced"],
    FREE: Policy(first_chunk=8, growth=2, quorum="all", patience_s=0, lead=math.inf),
}
TOGETHER, MIXTURE, OPTILLM, LITELLM = "Together's recipe", "mixture-llm", "optillm moa", "the recipe through LiteLLM"
PEERS = (TOGETHER, MIXTURE, OPTILLM, LITELLM)
_SAMPLING = Sampling(max_tokens=512)


@asynccontextmanager
async def open_systems(endpoint: Endpoint, models: Mapping[str, object]) -> AsyncIterator[dict[str, Ask]]:
    """All systems by name, at one endpoint that has these models."""
    bins = {name: install(name) for name in ("together", "mixture-llm", "optillm", "litellm")}
    async with AsyncExitStack() as stack:
        backends = await stack.enter_async_context(backends_at(endpoint, *models))
        found: dict[str, Ask] = {ALONE: _our(None, backends)}
        found |= {name: _our(policy, backends) for name, policy in OURS.items()}
        litellm = stack.enter_context(
            litellm_proxy(endpoint.base_url, str(bins["litellm"] / "litellm"), _free_port(), {m: m for m in models})
        ).base_url
        proxied = stack.enter_context(_optillm_proxy(endpoint.base_url, bins["optillm"]))
        theirs = {
            TOGETHER: (bins["together"], "together", endpoint.base_url),
            MIXTURE: (bins["mixture-llm"], "mixture", endpoint.base_url),
            OPTILLM: (bins["optillm"], "optillm", proxied),
            LITELLM: (bins["together"], "together", litellm),
        }
        for name, (folder, recipe, base_url) in theirs.items():
            found[name] = await stack.enter_async_context(_peer(folder / "python", recipe, base_url))
        yield found


def _our(policy: Policy | None, backends: Mapping[str, Backend]) -> Ask:
    """A run of ours; without a policy the aggregator's model alone."""

    async def ask(task: Task) -> Answer:
        graph = _graph(policy, task)
        at_s: list[float] = []
        start_s = time.perf_counter()
        async with open_run(graph, question(task.question), backends, pace=default_pace(graph)) as run:
            async for event in run.events():
                if isinstance(event, Wrote) and event.agent == graph.answer:
                    at_s.append(time.perf_counter() - start_s)
            total_s, text = time.perf_counter() - start_s, run.answer
        return Answer(at_s=at_s, total_s=total_s, num_words=len(text.split()))

    return ask


def _graph(policy: Policy | None, task: Task) -> Graph:
    if policy is None:
        return single(task.aggregator, sampling=_SAMPLING)
    sampling = {name: _SAMPLING for name in (*task.proposers, task.aggregator)}
    return mixture(proposers=list(task.proposers), aggregator=task.aggregator, policy=policy, sampling=sampling)


@asynccontextmanager
async def _peer(python: Path, recipe: str, base_url: str) -> AsyncIterator[Ask]:
    """A peer's process, which is kept between questions, and begun anew after one that was given up."""
    process: asyncio.subprocess.Process | None = None

    async def start() -> asyncio.subprocess.Process:
        command = (str(python), "-m", f"bench.peers.recipes.{recipe}", base_url)
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT)

    async def ask(task: Task) -> Answer:
        nonlocal process
        if process is None:
            process = await start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
        try:
            line = await process.stdout.readline()
        except asyncio.CancelledError:
            process.kill()
            process = None
            raise
        return Answer(**json.loads(line))

    try:
        yield ask
    finally:
        if process is not None:
            process.kill()
            await process.wait()


@contextmanager
def _optillm_proxy(base_url: str, folder: Path) -> Iterator[str]:
    """Runs optillm's proxy as its documentation says, before an endpoint; gives its address."""
    port = _free_port()
    command = [str(folder / "optillm"), "--base-url", base_url, "--port", str(port), "--approach", "moa"]
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=quiet, stderr=quiet) as process:
        try:
            wait_until_alive(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1"
        except TimeoutError:
            sys.exit("optillm's proxy did not start")
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
