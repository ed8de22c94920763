"""Right before fast: the torch backend on this device against itself on the CPU in float64, whose tests hold it.

Errors are norms: |found - expected| / |expected| over all logits. The same tokens are given in every way.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.decode import find_ways
from bench.gpu_all.results import Goal
from bench.gpu_all.setup import Setup, device_name
from bench.random_model import make_random
from stairstream.backends.torch.backend import TorchBackend, TorchModel
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import question
from stairstream.core.session import Delta

if TYPE_CHECKING:
    from stairstream.backends.torch.cache import Cache
    from stairstream.backends.torch.load import Loaded
    from stairstream.backends.torch.model import Model

_MOST_ERROR = {"float32": 1e-3, "bfloat16": 3e-2}
_ASK = question("Why is the sky blue?")
_SESSIONS = 64


def run(setup: Setup) -> None:
    """Compares each way of decoding in each type, then plays sessions."""
    device = device_name()
    expected = _play(_make("cpu", "float64").model)
    for dtype, most in _MOST_ERROR.items():
        for way, record in find_ways(device).items():
            model = _make(device, dtype).model
            model.decode_with(record)
            numbers = _compare(_play(model), expected)
            setup.add(f"{way}, {dtype}", dict(numbers), *(Goal(number=name, bound=most) for name in numbers))
    asyncio.run(_play_sessions(setup, device))


def _make(device: str, dtype: str) -> "Loaded":
    return make_random("tiny", device, dtype, weights_from="float64")


def _compare(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    return {
        f"{name}_error": float((found[name].double().cpu() - logits.double()).norm() / logits.double().norm())
        for name, logits in expected.items()
    }


def _play(model: "Model") -> dict[str, Any]:
    """Logits after plain steps, an insertion, several at once, growth of the buffers, and recomputation."""
    import torch

    found: dict[str, list[Any]] = {}
    with torch.inference_mode():
        one, two = _begin(model, range(3, 20)), _begin(model, range(40, 45))
        for number in range(4):
            found.setdefault("steps", []).append(_step(model, [one, two], number))
        _insert(model, one, 6, [101, 102, 103])
        _insert(model, two, 2, range(200, 260))
        for number in range(4):
            found.setdefault("insertion", []).append(_step(model, [two, one], number))
        three = _begin(model, range(40, 290))
        for number in range(8):  # beyond the buffers' first size, and beside shorter ones
            found.setdefault("growth", []).append(_step(model, [three, one, two], number))
        ids = list(one.ids)
        one.rearrange(ids, [None] * len(ids))
        found["recomputed"] = [_run_all(model, one)]
    return {name: torch.cat([logits.flatten() for logits in steps]) for name, steps in found.items()}


def _begin(model: "Model", ids: Iterable[int]) -> "Cache":
    cache, wanted = model.new_cache(), list(ids)
    cache.rearrange(wanted, [None] * len(wanted))
    _run_all(model, cache)
    cache.append(7)
    return cache


def _insert(model: "Model", cache: "Cache", at: int, ids: Sequence[int]) -> None:
    from stairstream.backends.torch.attention import Batch

    size = len(cache.ids)
    sources = [*range(at), *[None] * len(ids), *range(at, size - 1), None]
    cache.rearrange([*cache.ids[:at], *ids, *cache.ids[at:]], sources)
    model.run(Batch([cache.claim(len(ids))]), [])


def _step(model: "Model", caches: Sequence["Cache"], number: int) -> Any:
    from stairstream.backends.torch.attention import Batch

    logits = model.run(Batch([cache.claim(1) for cache in caches]), list(range(len(caches))))
    for offset, cache in enumerate(caches):
        cache.append(50 + 3 * number + offset)
    return logits.clone()  # a captured step writes into the same memory again


def _run_all(model: "Model", cache: "Cache") -> Any:
    from stairstream.backends.torch.attention import Batch

    return model.run(Batch([cache.claim(cache.num_missing)]), [0])[0].clone()


@asynccontextmanager
async def _open(loaded: "Loaded") -> AsyncIterator[TorchBackend]:
    with TemporaryDirectory() as folder:
        model = TorchModel(Path(folder))
        model.use(loaded)
        try:
            yield TorchBackend(model, "tiny")
        finally:
            await model.aclose()


async def _play_sessions(setup: Setup, device: str) -> None:
    async with _open(_make(device, "float32")) as backend:
        alone = [await _write(backend, number, 40) for number in range(4)]
        many = await asyncio.gather(*(_write(backend, number, 40) for number in range(_SESSIONS)))
        same = sum(one == other for one, other in zip(alone, many, strict=False)) / len(alone)
        setup.add(
            f"{_SESSIONS} sessions at once",
            {"same_as_alone": same, "shortest_tokens": min(len(ids) for ids in many)},
            Goal(number="same_as_alone", bound=1, is_most=False),
            Goal(number="shortest_tokens", bound=40, is_most=False),
        )
        stopped, stop_s = await _stop_in_the_middle(backend)
        whole = await _write(backend, 0, 40)
        setup.add(
            "stop in the middle",
            {"stop_ms": 1e3 * stop_s, "continues_the_same": float(stopped == whole)},
            Goal(number="stop_ms", bound=100),
            Goal(number="continues_the_same", bound=1, is_most=False),
        )


def _agent() -> Agent:
    return Agent(name="a", model="m", sampling=Sampling(max_tokens=400, temperature=0))


async def _write(backend: TorchBackend, number: int, limit: int) -> list[int]:
    session = await backend.open(_agent(), _ASK if not number else question(f"Why is the sky blue, {number} times?"))
    try:
        return [token async for item in session.write(limit) if isinstance(item, Delta) for token in item.ids or ()]
    finally:
        await session.aclose()


async def _stop_in_the_middle(backend: TorchBackend) -> tuple[list[int], float]:
    """The ids of a write that is stopped and of the next one, 40 in all; and how long a stop takes."""
    session = await backend.open(_agent(), _ASK)
    ids: list[int] = []
    start = took_s = 0.0
    try:
        async for item in session.write(200):
            if isinstance(item, Delta):
                ids += item.ids or ()
                if len(ids) >= 12 and not start:
                    start = time.monotonic()
                    session.stop()
        took_s = time.monotonic() - start
        async for item in session.write(max(1, 40 - len(ids))):
            if isinstance(item, Delta):
                ids += item.ids or ()
    finally:
        await session.aclose()
    return ids[:40], took_s
