"""Backends to run the contract on: each place gives one that works and one whose first call fails at once."""

import string
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from stairstream.backends.anthropic.backend import AnthropicBackend
from stairstream.backends.base import Backend
from stairstream.backends.capabilities import Capabilities, Continues
from stairstream.backends.http import HttpPool
from stairstream.backends.llamacpp import LlamaCpp, LlamaCppBackend
from stairstream.backends.models import DEFAULT_MODEL
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.remote.backend import RemoteBackend
from stairstream.backends.remote.channel import Dialler
from stairstream.backends.remote.unix import UnixDialler, listen_at, serving_at
from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.seams import EDGE_TOKENS
from stairstream.server.fake.server import FakeContinues, FakeModel, serve_fake
from tests.backends.anthropic.fake import serve_messages
from tests.backends.anthropic.own import serving_own
from tests.backends.local_model import llamacpp_model
from tests.backends.remote.memory import memory_dialler
from tests.manners import ODD, in_manner, models_in_manner, using

if TYPE_CHECKING:
    from stairstream.backends.vllm.engine import Engine

WORDS = (*numbered_words("w", 30), " caf\u00e9", " \U0001f600\u200d\U0001f4bb", *(f" v{i}" for i in range(1, 9)))
SCRIPT = Script(words=WORDS, token_s=0.001)
FLAKY = replace(SCRIPT, fault=Fault(kind="status_500", calls=1))
BOTH = {"good": SCRIPT, "flaky": FLAKY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`text` is all that the model would say, None if unknown; `extra_tokens` what a write may add to its limit.

    `late_tokens` are those that may still come of a write that was asked to stop. `is_counted`: every delta
    says how many tokens it has, but for those at the limit that spell nothing.
    """

    backend: Backend
    flaky: Backend | None = None
    text: str | None = None
    extra_tokens: int = 0
    late_tokens: int = 4
    is_counted: bool = True


OpenPlace = Callable[[], AbstractAsyncContextManager[Place]]


@asynccontextmanager
async def scripted_place() -> AsyncIterator[Place]:
    yield Place(
        backend=ScriptedBackend(in_manner(SCRIPT)), flaky=ScriptedBackend(in_manner(FLAKY)), text="".join(WORDS)
    )


def openai_place(fake: FakeContinues, continues: Continues | None = None, echoes: bool = False) -> OpenPlace:
    """The openai backend before a fake server that continues in the way of `fake`."""

    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        models = [
            FakeModel(name="good", script=SCRIPT, continues=fake, echoes=echoes),
            FakeModel(name="flaky", script=FLAKY, continues=fake, echoes=echoes),
        ]
        with tempfile.TemporaryDirectory() as folder:
            capabilities = Capabilities(path=Path(folder) / "capabilities.json")
            async with aclosing(HttpPool()) as pool, serve_fake(models_in_manner(models)) as serving:
                good, flaky = (
                    OpenAIBackend(
                        base_url=serving.base_url,
                        model=model.name,
                        pool=pool,
                        capabilities=capabilities,
                        continues=continues,
                    )
                    for model in models
                )
                await good.settle()
                extra_tokens = EDGE_TOKENS if good.capability.continues == "none" else 0
                yield Place(backend=good, flaky=flaky, text="".join(WORDS), extra_tokens=extra_tokens)

    return place


def anthropic_place(fake: FakeContinues) -> OpenPlace:
    """The anthropic backend before a fake of the API whose models continue in the way of `fake`."""

    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        models = [FakeModel(name=name, script=script, continues=fake) for name, script in BOTH.items()]
        async with serve_messages(models) as asked, anthropic_backends(asked.base_url) as (good, flaky):
            yield await at_messages(good, flaky)

    return place


@asynccontextmanager
async def own_place() -> AsyncIterator[Place]:
    """The anthropic backend before a server of ours, whose pipelines are of one scripted model."""
    async with serving_own(BOTH) as base_url, anthropic_backends(base_url) as (good, flaky):
        yield await at_messages(good, flaky)


@asynccontextmanager
async def anthropic_backends(base_url: str) -> AsyncIterator[list[AnthropicBackend]]:
    with tempfile.TemporaryDirectory() as folder:
        capabilities = Capabilities(path=Path(folder) / "capabilities.json")
        async with aclosing(HttpPool()) as pool:
            yield [
                AnthropicBackend(base_url=base_url, model=name, pool=pool, capabilities=capabilities) for name in BOTH
            ]


async def at_messages(good: AnthropicBackend, flaky: AnthropicBackend) -> Place:
    """The API counts an answer at its end only."""
    await good.settle()
    extra_tokens = EDGE_TOKENS if good.capability.continues == "none" else 0
    return Place(backend=good, flaky=flaky, text="".join(WORDS), extra_tokens=extra_tokens, is_counted=False)


def remote_place(open_place: OpenPlace) -> OpenPlace:
    """The backends of a place behind channels without a socket, whose frames take their time."""

    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        async with open_place() as one, memory_dialler(hosted_at(one), delay_s=0.0001) as dialler:
            yield await seen_through(dialler, one)

    return place


def unix_place(open_place: OpenPlace) -> OpenPlace:
    """The backends of a place behind a unix socket."""

    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "host.sock"
            with listen_at(path) as listening:
                async with open_place() as one, serving_at(listening, hosted_at(one)):
                    yield await seen_through(UnixDialler(path), one)

    return place


REMOTE_STOP_TOKENS = 50
"""Those of 50 ms, in which a stop is heard at the other side; `test_remote` has it to the millisecond."""


def hosted_at(place: Place) -> dict[str, Backend]:
    return {"good": place.backend, **({} if place.flaky is None else {"flaky": place.flaky})}


async def seen_through(dialler: Dialler, place: Place) -> Place:
    flaky = None if place.flaky is None else await RemoteBackend.reach(dialler, "flaky")
    backend = await RemoteBackend.reach(dialler, "good")
    return replace(place, backend=backend, flaky=flaky, late_tokens=REMOTE_STOP_TOKENS)


@asynccontextmanager
async def llamacpp_place() -> AsyncIterator[Place]:
    async with aclosing(LlamaCpp(llamacpp_model(), slots=1, context_tokens=1024)) as llama:
        yield Place(backend=LlamaCppBackend(llama, DEFAULT_MODEL))


SLOW_PLACES = ("llamacpp", "remote-llamacpp")


@asynccontextmanager
async def torch_place() -> AsyncIterator[Place]:
    """A tiny random model that only knows ASCII: what it says always spells whole characters."""
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    from stairstream.backends.torch.backend import TorchBackend, TorchModel
    from tests.backends.torch.tiny import make_loaded

    model = TorchModel(Path(__file__).parent, threads=1)
    model.use(make_loaded(alphabet=string.ascii_letters))
    try:
        yield Place(backend=TorchBackend(model, "tiny"))
    finally:
        await model.aclose()


VLLM_QUANTUM_TOKENS = 4


@asynccontextmanager
async def vllm_place() -> AsyncIterator[Place]:
    """Sessions for vLLM on an engine that only treats requests alike; `test_engine` has the real one."""
    pytest.importorskip("torch", reason="the extra `torch` is not installed")
    from stairstream.backends.vllm.backend import Vllm, VllmBackend
    from tests.backends.torch.tiny import make_tokens
    from tests.backends.vllm.fake import FakeEngine, say_letters

    tokens = make_tokens(string.ascii_letters)
    vllm = Vllm(Path(__file__).parent, quantum_tokens=VLLM_QUANTUM_TOKENS)
    vllm.use(cast("Engine", FakeEngine(tokens, say_letters(tokens))))
    async with aclosing(vllm):
        yield Place(backend=VllmBackend(vllm, "fake"), extra_tokens=VLLM_QUANTUM_TOKENS)


ENDPOINTS: dict[str, OpenPlace] = {
    "scripted": scripted_place,
    "openai-flag": openai_place("flag"),
    "openai-prefill": openai_place("prefill"),
    "openai-echo": openai_place("prefill", echoes=True),
    "openai-prefix": openai_place("prefix", "prefix"),
    "openai-quoted": openai_place("none"),
    "openai-reject": openai_place("reject"),
    "anthropic-prefill": anthropic_place("prefill"),
    "anthropic-quoted": anthropic_place("none"),
    "anthropic-reject": anthropic_place("reject"),
}
"""Those that may send their tokens in any manner."""


def in_odd_manner(open_place: OpenPlace, odd: str) -> OpenPlace:
    """The same place, which sends its tokens in one of the odd manners."""

    @asynccontextmanager
    async def place() -> AsyncIterator[Place]:
        with using(ODD[odd]):
            async with open_place() as one:
                yield replace(one, is_counted=one.is_counted and ODD[odd].usage == "exact")

    return place


PLACES: dict[str, OpenPlace] = {
    **ENDPOINTS,
    **{
        f"{name}, {odd}": in_odd_manner(place, odd)
        for (name, place), odd in zip(ENDPOINTS.items(), cycle(ODD), strict=False)
    },
    "anthropic-own": own_place,
    "torch": torch_place,
    "vllm": vllm_place,
    "llamacpp": llamacpp_place,
    "remote-scripted": remote_place(scripted_place),
    "remote-openai": remote_place(openai_place("flag")),
    "remote-torch": remote_place(torch_place),
    "remote-vllm": unix_place(vllm_place),
    "remote-unix": unix_place(scripted_place),
    "remote-llamacpp": unix_place(llamacpp_place),
}
