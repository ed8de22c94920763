"""A client that leaves takes every upstream call with it, at once, as the server sees it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.capabilities import Capabilities
from stairstream.backends.http import HttpPool
from stairstream.backends.openai import OpenAIBackend
from stairstream.backends.scripted import Script, numbered_words
from stairstream.core.events import Event, Wrote
from stairstream.core.messages import question
from stairstream.core.policy import Policy
from stairstream.engine.run import open_run
from stairstream.server.fake.server import FakeModel, serve_fake
from tests.engine.staircase import mixture
from tests.manners import models_in_manner

pytestmark = pytest.mark.manners

NAMES = ("p1", "p2", "p3", "agg")
POLICY = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0)
CLOSED_WITHIN_S = 0.1


def is_answer(event: Event) -> bool:
    return isinstance(event, Wrote) and event.agent == "agg"


def is_proposal(event: Event) -> bool:
    return isinstance(event, Wrote)


@pytest.mark.parametrize(("moment", "num_open"), [(is_answer, 4), (is_proposal, 3)])
def test_leaving_closes_every_call_within_100_ms(
    moment: Callable[[Event], bool], num_open: int, tmp_path: Path
) -> None:
    async def main() -> None:
        script = Script(words=numbered_words("w", 1000), first_token_s=0.005, token_s=0.002)
        models = [FakeModel(name=name, script=script) for name in NAMES]
        async with aclosing(HttpPool()) as pool, serve_fake(models_in_manner(models)) as serving:
            capabilities = Capabilities(path=tmp_path / "capabilities.json")
            backends: dict[str, Backend] = {
                name: OpenAIBackend(
                    base_url=serving.base_url, model=name, pool=pool, capabilities=capabilities, continues="flag"
                )
                for name in NAMES
            }
            async with open_run(mixture(POLICY), question("Why?"), backends) as run:
                async for event in run.events():
                    if moment(event):
                        break
                assert sum(call.ended == "open" for call in serving.calls) == num_open
                left_s = time.monotonic()
            assert time.monotonic() - left_s < CLOSED_WITHIN_S
            await asyncio.sleep(CLOSED_WITHIN_S / 2)
            assert {call.ended for call in serving.calls} <= {"left", "done"}
            closed_s = [call.ended_s for call in serving.calls if call.ended == "left"]
            assert len(closed_s) >= num_open
            assert all(at_s is not None and at_s - left_s < CLOSED_WITHIN_S for at_s in closed_s)

    asyncio.run(main())


def test_cancelling_the_reader_closes_every_call_too(tmp_path: Path) -> None:
    async def main() -> None:
        script = Script(words=numbered_words("w", 1000), first_token_s=0.005, token_s=0.002)
        async with (
            aclosing(HttpPool()) as pool,
            serve_fake(models_in_manner([FakeModel(name="m", script=script)])) as serving,
        ):
            backend = OpenAIBackend(
                base_url=serving.base_url,
                model="m",
                pool=pool,
                capabilities=Capabilities(path=tmp_path / "capabilities.json"),
                continues="flag",
            )

            speaking: set[str] = set()
            all_speak = asyncio.Event()

            async def read() -> None:
                async with open_run(mixture(POLICY), question("Why?"), dict.fromkeys(NAMES, backend)) as run:
                    async for event in run.events():
                        if isinstance(event, Wrote):
                            speaking.add(event.agent)
                        if len(speaking) == len(NAMES):
                            all_speak.set()

            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(read())
                async with asyncio.timeout(20):  # on a busy machine that takes a while
                    await all_speak.wait()
                left_s = time.monotonic()
                reading.cancel()
            await asyncio.sleep(CLOSED_WITHIN_S / 2)
            ends = [(call.ended, call.ended_s) for call in serving.calls if call.ended != "done"]
            assert len(ends) >= 4
            assert all(end == "left" and at_s is not None and at_s - left_s < CLOSED_WITHIN_S for end, at_s in ends)

    asyncio.run(main())
