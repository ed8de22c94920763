"""Asking once: an answer word by word in plain and in async code, and arguments of a wrong type."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stairstream
from stairstream.config.schema import Config, parse_config
from stairstream.core.errors import ConfigError, RequestError, RunFailed
from stairstream.core.graph import Graph

CONFIG = Path(__file__).parent / "scripted.yaml"
ANSWER = "Blue light scatters most."
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
SLOW = "models: {m: {backend: scripted, length: 100000, token_s: 0.01}}\npipelines: {one: {topology: single, model: m}}"


def slow() -> Config:
    """A model whose answer takes a quarter of an hour."""
    return parse_config(SLOW, "slow.yaml", {})


def own_threads() -> list[str]:
    """The threads that runs have."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stairstream")]


def test_plain_code_gets_the_answer_word_by_word_and_then_its_numbers() -> None:
    words = stairstream.stream(MESSAGES, config=CONFIG)
    assert words.answer is None
    heard = list(words)
    assert len(heard) > 1 and "".join(heard) == ANSWER
    assert words.answer is not None and words.answer.text == ANSWER
    assert own_threads() == []


@pytest.mark.parametrize("leave", ["break", "raise", "close"])
def test_leaving_the_loop_ends_the_run(leave: str) -> None:
    words, start_s = stairstream.stream("Why?", config=slow()), time.monotonic()
    match leave:
        case "break":
            for _ in words:
                break
        case "raise":
            with pytest.raises(ZeroDivisionError):
                for _ in words:
                    1 / 0  # noqa: B018
        case _:
            loop: Any = iter(words)
            next(loop)
            loop.close()
    assert own_threads() == [] and words.answer is None
    assert time.monotonic() - start_s < 60


def test_plain_code_streams_where_a_loop_is_running() -> None:
    async def cell() -> str:
        return "".join(stairstream.stream("Why?", "single", config=CONFIG))

    assert asyncio.run(cell()) == ANSWER
    assert own_threads() == []


def test_async_code_gets_the_answer_word_by_word() -> None:
    async def main() -> None:
        words = stairstream.stream_async(MESSAGES, config=CONFIG)
        heard = [word async for word in words]
        assert len(heard) > 1 and "".join(heard) == ANSWER
        assert words.answer is not None and words.answer.text == ANSWER

    asyncio.run(main())


def test_async_code_that_leaves_the_loop_ends_the_run() -> None:
    async def main() -> None:
        async for _ in stairstream.stream_async("Why?", config=slow()):
            break
        async with asyncio.timeout(60):
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(main())


def test_cancelled_async_code_ends_the_run() -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            task = asyncio.create_task(_read_all(stairstream.stream_async("Why?", config=slow())))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled() and len(asyncio.all_tasks()) == 1

    asyncio.run(main())


async def _read_all(words: Any) -> None:
    async for _ in words:
        pass


def test_answer_that_breaks_off_raises_after_its_last_word() -> None:
    text = SLOW.replace("token_s: 0.01", "attempts: 1, fault: {kind: cut, after_tokens: 3}")
    words = stairstream.stream("Why?", config=parse_config(text, "c.yaml", {}))
    heard: list[str] = []
    with pytest.raises(RunFailed):
        for word in words:
            heard.append(word)
    assert len(heard) >= 3

    async def main() -> None:
        async for word in stairstream.stream_async("Why?", config=parse_config(text, "c.yaml", {})):
            heard.append(word)

    with pytest.raises(RunFailed):
        asyncio.run(main())
    assert own_threads() == []


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "pipeline": (
        lambda: stairstream.ask("Why?", 7, config=CONFIG),  # type: ignore[arg-type]
        "pipeline: is of the type int; give the name of a pipeline, or a graph",
    ),
    "config": (
        lambda: stairstream.ask("Why?", config={"models": {}}),  # type: ignore[arg-type]
        "config: is of the type dict; give the path of a YAML file",
    ),
    "policy": (
        lambda: stairstream.ask("Why?", config=CONFIG, policy={"first_chunk": 8}),  # type: ignore[arg-type]
        "policy: is of the type dict; give the name of a preset, or a Policy",
    ),
    "policy's name": (
        lambda: stairstream.ask("Why?", config=CONFIG, policy="wiat"),
        "policy: 'wiat' is not a policy; did you mean 'wait'",
    ),
    "graph": (
        lambda: stairstream.open_run("mix", "Why?", {}),  # type: ignore[arg-type]
        "graph: is of the type str; give a Graph",
    ),
    "backends": (
        lambda: stairstream.open_run(one_agent(), "Why?", None),  # type: ignore[arg-type]
        "backends: is None; give a dict of models' names to backends",
    ),
    "written": (
        lambda: stairstream.open_run(one_agent(), "Why?", {}, written=None),  # type: ignore[arg-type]
        "written: is None; give text",
    ),
}


def one_agent() -> Graph:
    """A graph of one agent."""
    return stairstream.single("m")


@pytest.mark.parametrize("name", WRONG)
def test_argument_of_a_wrong_type_is_one_line_that_names_it(name: str) -> None:
    call, problem = WRONG[name]
    with pytest.raises(ConfigError, match=f"^{problem}"):
        call()


def test_settings_are_named_as_the_argument_is() -> None:
    async def main(settings: Any) -> None:
        async with stairstream.open_pipeline("mix", config=CONFIG, settings=settings):
            pass

    for settings, problem in (
        ("first_chunk=4", "settings: is of the type str; give a list of texts such as 'first_chunk=16'"),
        (["first_chunk"], "settings: must be NUMBER=VALUE"),
        ([4], "settings: must be NUMBER=VALUE, as in first_chunk=16, not 4"),
        (["frist_chunk=4"], "settings: frist_chunk: unknown key; did you mean 'first_chunk'"),
    ):
        with pytest.raises(ConfigError, match=f"^{problem}"):
            asyncio.run(main(settings))


@pytest.mark.parametrize("ask", [stairstream.ask, stairstream.stream, stairstream.stream_async])
def test_wrong_conversation_is_refused_before_a_model_is_loaded(ask: Callable[..., object]) -> None:
    with pytest.raises(RequestError, match=r"^conversation\[0\]\.role: is missing"):
        ask([{"content": "Why?"}], config="no such file")
    with pytest.raises(RequestError, match="the question is empty"):
        ask([{"role": "system", "content": "Be brief."}], config="no such file")


def test_run_of_ones_own_takes_messages_as_dicts() -> None:
    backend = stairstream.ScriptedBackend(stairstream.Script(words=["Blue ", "light."]), model="m")

    async def main() -> list[str]:
        async with stairstream.open_run(one_agent(), MESSAGES, {"m": backend}) as run:
            return [word async for word in run.words()]

    assert asyncio.run(main()) == ["Blue ", "light."]
