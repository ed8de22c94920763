"""An adapter beside the weights: who reads partial references writes with it, others as if it were not there."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.adapter import add_adapter, put_beside  # noqa: E402
from stairstream.backends.torch.attention import Batch  # noqa: E402
from stairstream.backends.torch.backend import TorchBackend, TorchModel  # noqa: E402
from stairstream.backends.torch.cache import Cache  # noqa: E402
from stairstream.backends.torch.model import Model  # noqa: E402
from stairstream.backends.torch.static import Recorder, repeat  # noqa: E402
from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.core.graph import Agent  # noqa: E402
from stairstream.core.policy import PRESETS  # noqa: E402
from tests.backends.torch.adapters import write_adapter  # noqa: E402
from tests.backends.torch.driving import AGENT, ASK, LOADED, WRITER, chunk, ids_of, write  # noqa: E402
from tests.backends.torch.tape import Tape  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402

WAITER = replace(AGENT, policy=PRESETS["wait"])


def make_both(folder: Path) -> tuple[Model, Model, Model]:
    """A model with an adapter beside it, one with the same adapter in its weights, and the base."""
    write_adapter(folder)
    networks: list[Any] = [make_network(vocab_size=len(LOADED.tokens)) for _ in range(3)]
    gate = put_beside(networks[0], folder)
    add_adapter(networks[1], folder)
    return Model(networks[0], "beside", gate), Model(networks[1], "added"), Model(networks[2], "base")


def play(model: Model, *adapted: bool) -> list[Any]:
    """Sequences of different lengths in one batch, prefill and eight steps; logits of each."""
    caches = [model.new_cache(is_adapted=one) for one in adapted]
    for number, cache in enumerate(caches):
        ids = list(range(5 + number, 25 + 3 * number))
        cache.rearrange(ids, [None] * len(ids))
    found = [advance(model, caches, [cache.num_missing for cache in caches])]
    found += [advance(model, caches, [1] * len(caches)) for _ in range(8)]
    return [torch.stack([one[number] for one in found]) for number in range(len(caches))]


def advance(model: Model, caches: list[Cache], counts: list[int]) -> Any:
    claims = [cache.claim(count) for cache, count in zip(caches, counts, strict=True)]
    logits = model.run(Batch(claims), list(range(len(caches))))
    for cache, logits_V in zip(caches, logits, strict=True):
        cache.append(int(logits_V.argmax()))
    return logits


@pytest.mark.parametrize("make", [lambda: None, lambda: repeat, Tape], ids=["any shape", "fixed shapes", "recorded"])
@pytest.mark.parametrize("adapted", [(True, False), (False, True, True), (True,), (False, False)])
def test_one_batch_has_tokens_of_both_kinds(
    tmp_path: Path, adapted: tuple[bool, ...], make: Callable[[], Recorder | None]
) -> None:
    beside, added, base = make_both(tmp_path)
    beside.decode_with(make())
    number_of = range(len(adapted))
    with_it, without = play(added, *[False for _ in number_of]), play(base, *[False for _ in number_of])
    for number, (found, is_adapted) in enumerate(zip(play(beside, *adapted), adapted, strict=True)):
        expected = with_it[number] if is_adapted else without[number]
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


def test_a_recorded_step_takes_either_kind(tmp_path: Path) -> None:
    beside, added, base = make_both(tmp_path)
    beside.decode_with(Tape())
    for adapted in ((True, False), (False, True), (True, False), (False, False)):
        pairs = zip(play(beside, *adapted), adapted, play(added, False, False), play(base, False, False), strict=True)
        for found, is_adapted, with_it, without in pairs:
            torch.testing.assert_close(found, with_it if is_adapted else without, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", ["beside", "alone"])
def test_who_reads_partial_references_writes_with_it(tmp_path: Path, kind: str) -> None:
    beside, added, base = make_both(tmp_path)

    async def say(model: TorchModel, *agents: Agent) -> list[list[int]]:
        """All at once, on the same question, so that they would share what is computed of it."""
        backend = TorchBackend(model, "tiny")
        sessions = [await backend.open(agent, ASK) for agent in agents]
        for agent, session in zip(agents, sessions, strict=True):
            if agent.reads:
                await session.read([chunk("p1", "The sea is deep", is_final=True), chunk("p2", "", is_final=True)])
        try:
            return [ids_of(items) for items in await asyncio.gather(*(write(one, 12) for one in sessions))]
        finally:
            for session in sessions:
                await session.aclose()

    def make(model: Model, **keys: Any) -> TorchModel:
        found = TorchModel(Path(__file__).parent, threads=1, **keys)
        found.use(replace(LOADED, model=model))
        return found

    async def main() -> None:
        staircase = replace(AGENT, layout="grouped")
        agents = (WRITER, WAITER, staircase, staircase, WAITER, WRITER)
        models = [make(beside, adapter=tmp_path, adapter_for="partial"), make(added), make(base)]
        try:
            found = await say(models[0], *(agents if kind == "beside" else agents[2:4]))
            [with_it] = await say(models[1], staircase)
            others = await say(models[2], WRITER, WAITER)
        finally:
            for model in models:
                await model.aclose()
        assert with_it != others[1], "the adapter changes nothing, so this shows nothing"
        expected = [*others, with_it, with_it, *reversed(others)] if kind == "beside" else [with_it, with_it]
        assert found == expected

    asyncio.run(main())


def test_only_linear_layers_have_it_beside_them(tmp_path: Path) -> None:
    write_adapter(tmp_path, "base_model.model.model.embed_tokens", high=300)
    with pytest.raises(ConfigError, match=r"has matrices for model\.embed_tokens, which is no linear layer"):
        put_beside(make_network(), tmp_path)
