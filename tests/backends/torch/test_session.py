"""Sessions on a tiny model: the right words, and nothing computed twice."""

import asyncio
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.in_process.pieces import join  # noqa: E402
from stairstream.backends.in_process.prompting import Prompter  # noqa: E402
from stairstream.backends.torch.backend import TorchBackend  # noqa: E402
from stairstream.backends.torch.session import TorchSession  # noqa: E402
from stairstream.core.graph import Sampling  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import AskedLayout, Began, Delta, WriteItem  # noqa: E402
from tests.backends.torch.driving import (  # noqa: E402
    AGENT,
    ASK,
    LOADED,
    NETWORK,
    SAMPLING,
    WRITER,
    chunk,
    computed,
    ended,
    ids_of,
    on_model,
    text_of,
    write,
)
from tests.backends.torch.tiny import greedy  # noqa: E402


def test_an_answer_is_what_the_models_own_forward_writes() -> None:
    async def act(backend: TorchBackend) -> None:
        session = await backend.open(WRITER, ASK)
        items = [*await write(session, 30), *await write(session, 10)]
        prompt = join(Prompter(LOADED.tokens, WRITER, ASK, "grouped").build())
        ids = ids_of(items)
        assert len(ids) >= 40
        assert ids == greedy(NETWORK, prompt, len(ids))
        assert LOADED.tokens.decode(ids) == text_of(items)
        assert items[0] == Began(layout="grouped", why="it reads nobody", prompt_tokens=len(prompt), is_estimate=False)

    on_model(act)


def test_going_on_computes_no_prompt_but_the_last_word() -> None:
    async def act(backend: TorchBackend) -> None:
        session = await backend.open(WRITER, ASK)
        assert computed(await write(session, 10)) > 10
        assert computed(await write(session, 10)) == 1

    on_model(act)


@pytest.mark.parametrize("layout", ["grouped", "rounds", "regrouped"])
def test_exact_layouts_write_what_a_fresh_prompt_would(layout: AskedLayout) -> None:
    async def act(backend: TorchBackend) -> None:
        agent = replace(AGENT, layout=layout)
        session, prompter = await backend.open(agent, ASK), Prompter(LOADED.tokens, agent, ASK, layout)
        for number in range(3):
            some = [chunk("p1", f" deep {number}", number == 2), chunk("p2", f" red {number}", number == 2)]
            await session.read(some)
            prompter.read(some)
            items = await write(session, 8)
            ids = ids_of(items)
            assert ids == greedy(NETWORK, join(prompter.build()), len(ids))
            prompter.wrote(text_of(items), ids)

    on_model(act)


def test_rounds_compute_nothing_twice_and_insert_little_more() -> None:
    async def act(backend: TorchBackend) -> None:
        ratios = {}
        for layout in ("rounds", "insert", "grouped"):
            session = await backend.open(replace(AGENT, layout=layout), ASK)
            prompt = 0
            for number in range(8):
                await session.read(
                    [chunk("p1", f" deep sea {number}"), chunk("p2", f" red rose {number}", number == 7)]
                )
                items = await write(session, 8)
                prompt += computed(items)
            ended_usage = ended(items).usage
            assert ended_usage is not None
            ratios[layout] = prompt / (ended_usage.prompt_tokens + ended_usage.completion_tokens)
        assert ratios["rounds"] <= 1 and ratios["insert"] <= 1
        assert ratios["grouped"] > 2

    on_model(act)


def size_of(items: list[WriteItem]) -> int:
    usage = ended(items).usage
    assert usage is not None
    return usage.prompt_tokens


@pytest.mark.parametrize("num_updates", [3, 8])  # in rounds the context is full after the third
def test_regrouped_computes_each_reference_once_and_all_once_more(num_updates: int) -> None:
    async def act(backend: TorchBackend) -> None:
        found = dict[str, list[list[WriteItem]]]()
        for layout in ("rounds", "regrouped", "grouped"):
            session, found[layout] = await backend.open(replace(AGENT, layout=layout), ASK), []
            for number in range(num_updates):
                is_last = number == num_updates - 1
                await session.read([chunk(name, f" {name} {number}", is_last) for name in ("p1", "p2")])
                found[layout].append(await write(session, 8))
        *early, last = found["regrouped"]
        assert [ids_of(items) for items in early] == [ids_of(items) for items in found["rounds"][:-1]]
        layouts = [one.layout for items in (*early, last) for one in items if isinstance(one, Began)]
        assert layouts == ["rounds"] * len(early) + ["grouped"]
        assert all(
            computed(items) == computed(as_rounds)
            for items, as_rounds in zip(early[1:], found["rounds"][1:-1], strict=True)
        )
        sizes = {layout: size_of(steps[-1]) for layout, steps in found.items()}
        assert 1 < computed(last) <= sizes["regrouped"] < sizes["rounds"]
        assert abs(sizes["regrouped"] - sizes["grouped"]) < 30  # it has other words of its own

    on_model(act)


def test_an_insertion_changes_the_next_word() -> None:
    async def act(backend: TorchBackend) -> None:
        one, other = [await backend.open(AGENT, ASK) for _ in range(2)]
        for session in (one, other):
            await session.read([chunk("p1", "deep"), chunk("p2", "red")])
        assert ids_of(await write(one, 8)) == ids_of(await write(other, 8))
        await one.read([chunk("p1", " and wide and full of salty fish", True)])
        assert ids_of(await write(one, 20)) != ids_of(await write(other, 20))

    on_model(act)


def test_agents_with_one_prompt_compute_it_once() -> None:
    async def act(backend: TorchBackend) -> None:
        sessions = [await backend.open(WRITER, ASK) for _ in range(3)]
        alone = await write(await backend.open(WRITER, question("Something else, please.")), 20)
        results = await asyncio.gather(*(write(session, 20) for session in sessions))
        assert sorted(computed(items) for items in results)[:2] == [1, 1]
        assert all(ids_of(items) == ids_of(results[0]) for items in results)
        assert text_of(alone) != text_of(results[0])

    on_model(act)


def test_a_batch_writes_what_each_writes_alone() -> None:
    async def act(backend: TorchBackend) -> None:
        asked = [question(f"Question {number}: {'why ' * number}?") for number in range(4)]
        alone = [ids_of(await write(await backend.open(WRITER, one), 20)) for one in asked]
        together = await asyncio.gather(*[write(await backend.open(WRITER, one), 20) for one in asked])
        assert [ids_of(items) for items in together] == alone

    on_model(act)


async def settle(session: TorchSession) -> None:
    """Until all that was asked for early is computed."""
    async with asyncio.timeout(10):
        while session._early is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_warming_leaves_only_what_comes_behind_the_head() -> None:
    async def act(backend: TorchBackend) -> None:
        warmed, cold = [await backend.open(AGENT, ASK) for _ in range(2)]
        await warmed.warm()
        await settle(warmed)
        await warmed.read([chunk("p1", "deep")])
        first = await write(warmed, 12)
        usage = ended(first).usage
        assert usage is not None and usage.cached_tokens == 0
        assert 200 < usage.early_tokens < usage.prompt_tokens
        await cold.read([chunk("p1", "deep")])
        assert ids_of(await write(cold, 12)) == ids_of(first)

    on_model(act)


@pytest.mark.parametrize("layout", ["grouped", "insert", "rounds", "regrouped"])
def test_what_is_foreseen_is_hidden_and_changes_nothing(layout: AskedLayout) -> None:
    async def act(backend: TorchBackend) -> None:
        agent = replace(AGENT, layout=layout)
        early, late = [await backend.open(agent, ASK) for _ in range(2)]
        last = [chunk("p1", "deep, salty and wide", True), chunk("p2", "red as a rose", True)]
        for chunks in ([chunk("p2", "red as")], [chunk("p1", "deep, sal"), chunk("p2", "red")], last):
            early.foresee(chunks)
            await settle(early)
        for session in (early, late):
            await session.read(last)
        first = await write(early, 20)
        assert ids_of(first) == ids_of(await write(late, 20))
        usage = ended(first).usage
        assert usage is not None and usage.cached_tokens is not None
        assert usage.early_tokens >= usage.prompt_tokens - 1
        assert usage.prompt_tokens - usage.cached_tokens <= usage.prompt_tokens + 10

    on_model(act)


def test_a_stop_string_ends_the_call_with_the_delta_that_completes_it() -> None:
    async def act(backend: TorchBackend) -> None:
        text = text_of(await write(await backend.open(WRITER, ASK), 40))
        stop = text[9:12]
        agent = replace(WRITER, sampling=replace(SAMPLING, stop=(stop,)))
        items = await write(await backend.open(agent, ASK), 40)
        *_, last = [item.text for item in items if isinstance(item, Delta)]
        said = text_of(items)
        assert text.startswith(said) and stop in said and stop not in said.removesuffix(last)
        assert ended(items).reason == "stop_string"

    on_model(act)


def test_a_session_goes_on_from_given_words() -> None:
    async def act(backend: TorchBackend) -> None:
        words = " and the sea is"
        items = await write(await backend.open(WRITER, ASK, words), 12)
        prompt = join(Prompter(LOADED.tokens, WRITER, ASK, "grouped", words).build())
        assert ids_of(items) == greedy(NETWORK, prompt, len(ids_of(items)))

    on_model(act)


def test_seeds_repeat_and_differ() -> None:
    async def act(backend: TorchBackend) -> None:
        async def say(seed: int) -> str:
            sampling = Sampling(temperature=1.0, top_p=0.9, seed=seed)
            return text_of(await write(await backend.open(replace(WRITER, sampling=sampling), ASK), 20))

        assert await say(1) == await say(1) != await say(2)

    on_model(act)
