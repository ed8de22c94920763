"""How soon a real model stops in the middle of a long prefill; `pytest -m slow -s` of this file says it."""

import asyncio
import statistics
from itertools import pairwise

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.models import DEFAULT_MODEL, find_model, is_fetched
from stairstream.backends.torch.backend import TorchBackend, TorchModel
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import Conversation, question
from stairstream.core.session import Ended, WriteItem

ALLOWED_S = 0.1
ALLOWED_STEPS = 6
"""On a busy machine one word takes longer than it should, and so does a pass: then this many words' time is allowed."""

WRITER = Agent(name="p1", model="m", sampling=Sampling(max_tokens=400, temperature=0))
SHORT = question("Tell me about the sea.")
LONG = question("The sea is deep and salty, and the red rose is not the sea. " * 250)


async def measure_step(backend: TorchBackend) -> float:
    """The median time of a word."""
    clock = asyncio.get_running_loop().time
    session = await backend.open(WRITER, SHORT)
    times = [clock() async for _ in session.write(12)]
    await session.aclose()
    return statistics.median(after - before for before, after in pairwise(times[2:]))


async def measure_stop(backend: TorchBackend, conversation: Conversation, after_s: float) -> tuple[float, Ended]:
    """How long a write goes on after it was asked to stop, and how it ended."""
    clock = asyncio.get_running_loop().time
    session = await backend.open(WRITER, conversation)

    async def write() -> list[WriteItem]:
        return [item async for item in session.write(100)]

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write())
        await asyncio.sleep(after_s)
        assert not writing.done()
        start_s = clock()
        session.stop()
        items = await writing
        took_s = clock() - start_s
    await session.aclose()
    assert isinstance(items[-1], Ended)
    return took_s, items[-1]


@pytest.mark.slow
def test_a_stop_ends_a_long_prefill_of_a_real_model_within_100_ms() -> None:
    if not is_fetched(DEFAULT_MODEL):
        pytest.skip("the model is not fetched: stairstream pull")

    async def main() -> tuple[list[float], float]:
        model = TorchModel(find_model(DEFAULT_MODEL), threads=1)
        try:
            backend = TorchBackend(model, DEFAULT_MODEL)
            step_s, found = await measure_step(backend), []
            for after_s in (0.3, 0.7, 1.1, 1.5, 1.9):
                took_s, ended = await measure_stop(backend, LONG, after_s)
                assert ended.reason == "stopped"
                assert ended.usage is not None and ended.usage.completion_tokens == 0
                found.append(took_s)
            return found, step_s
        finally:
            await model.aclose()

    found, step_s = asyncio.run(main())
    shown = ", ".join(f"{1e3 * took_s:.0f}" for took_s in found)
    print(f"\nstops took {shown} ms; a word takes {1e3 * step_s:.0f} ms")
    assert statistics.median(found) <= max(ALLOWED_S, ALLOWED_STEPS * step_s)
