"""Replays with real engines: their threads and processes do not move the virtual clock."""

import asyncio
from pathlib import Path

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.models import DEFAULT_MODEL
from stairstream.core.policy import Policy
from stairstream.core.session import Layout
from stairstream.eval.replay import Replay, configure, open_aggregator, replay, take_likeliest
from stairstream.sim.clock import VirtualTimeLoop, run
from tests.backends.local_model import llamacpp_model

TEXT = "The sky is blue because of how light is scattered by air, and red when the sun is low."


def make_replay(layout: Layout) -> Replay:
    return Replay(
        asked="Why is the sky blue?",
        proposals={"p1": TEXT, "p2": TEXT},
        policy=Policy(first_chunk=8, growth=1, quorum="all", patience_s=0),
        layout=layout,
        sampling=take_likeliest(24),
    )


async def hear(backend: Backend, layout: Layout) -> None:
    """Checks that two replays give the same answer at the same times, with updates."""
    first = await replay(backend, make_replay(layout))
    again = await replay(backend, make_replay(layout))
    assert first == again
    # the eighth piece comes at 51 + 7 * 5, then a call takes 51.5
    assert first.first_token_s == (51 + 7 * 5 + 51.5) / 256
    assert first.updates and first.text and first.layout == layout


def test_torch_answers_in_virtual_time(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from stairstream.backends.torch.backend import TorchBackend, TorchModel
    from tests.backends.torch.tiny import make_loaded

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        torch = TorchModel(tmp_path)
        torch.use(make_loaded())
        try:
            await hear(TorchBackend(torch, "tiny"), "grouped")
        finally:
            with loop.hold():
                await torch.aclose()
                await loop.shutdown_default_executor()

    run(main())


@pytest.mark.slow
def test_llamacpp_answers_in_virtual_time() -> None:
    llamacpp_model()

    async def main() -> None:
        async with open_aggregator(configure("llamacpp", DEFAULT_MODEL)) as backend:
            await hear(backend, "quoted")

    run(main())
