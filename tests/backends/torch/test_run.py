"""Whole runs on a tiny model: four agents in one batch."""

import asyncio
import random
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from pathlib import Path  # noqa: E402

from stairstream.backends.retry import Retrying  # noqa: E402
from stairstream.backends.torch.backend import TorchBackend, TorchModel  # noqa: E402
from stairstream.backends.torch.load import Loaded  # noqa: E402
from stairstream.backends.wrapping import WrappingSession  # noqa: E402
from stairstream.core.events import Event, LayoutChosen, StepEnded  # noqa: E402
from stairstream.core.graph import Agent, Graph, Sampling  # noqa: E402
from stairstream.core.messages import Conversation, question  # noqa: E402
from stairstream.core.policy import PRESETS, Policy  # noqa: E402
from stairstream.core.session import Usage  # noqa: E402
from stairstream.engine.run import open_run  # noqa: E402
from tests.backends.torch.tape import Tape  # noqa: E402
from tests.backends.torch.tiny import make_loaded  # noqa: E402

LOADED = make_loaded()
STAIRS = Policy(first_chunk=8, growth=1, quorum="all", patience_s=0)


class BlindSession(WrappingSession):
    """A session that sees nothing ahead."""

    @property
    def reads_ahead(self) -> bool:
        return False


class Blind(TorchBackend):
    """Its sessions see nothing ahead."""

    async def open(  # type: ignore[override]
        self, agent: Agent, conversation: Conversation, written: str = ""
    ) -> BlindSession:
        return BlindSession(await super().open(agent, conversation, written))


def play(policy: Policy, kind: type[TorchBackend] = TorchBackend, loaded: Loaded = LOADED) -> tuple[str, list[Event]]:
    """A mixture whose proposers say different things, at temperature 0."""
    names = ("p1", "p2", "p3")
    sampling = Sampling(max_tokens=40, temperature=0)
    proposers = [Agent(name=name, model="m", instructions=f"You are {name}.", sampling=sampling) for name in names]
    agg = Agent(name="agg", model="m", reads=names, policy=policy, sampling=sampling)
    graph = Graph(agents=(*proposers, agg), answer="agg")

    async def main() -> tuple[str, list[Event]]:
        model = TorchModel(Path(__file__).parent, threads=1)
        model.use(replace(loaded))
        try:
            async with open_run(graph, question("Tell me about the sea."), {"m": kind(model, "tiny")}) as run:
                events = [event async for event in run.events()]
                return run.answer, events
        finally:
            await model.aclose()

    return asyncio.run(main())


def usages(events: list[Event]) -> list[Usage]:
    return [event.usage for event in events if isinstance(event, StepEnded) and event.agent == "agg"]


def test_overlap_gives_the_answer_of_wait_with_part_of_its_prefill_hidden() -> None:
    plain, events = play(PRESETS["wait"], Blind)
    early, foreseen = play(PRESETS["wait"])
    assert plain == early
    (whole,), (hidden,) = usages(events), usages(foreseen)
    assert hidden.prompt_tokens == whole.prompt_tokens
    # the head and the first reference at least; the others stand behind it and are written at the same time
    assert hidden.early_tokens > whole.early_tokens


def test_a_staircase_inserts_and_computes_no_more_than_is_there() -> None:
    _, events = play(STAIRS)
    (layout,) = [event.layout for event in events if isinstance(event, LayoutChosen) and event.agent == "agg"]
    assert layout == "insert"
    steps = usages(events)
    assert len(steps) >= 3
    computed = sum(one.prompt_tokens - (one.cached_tokens or 0) for one in steps)
    assert computed <= 1.05 * (steps[-1].prompt_tokens + steps[-1].completion_tokens)


def test_recorded_steps_give_the_same_answer() -> None:
    loaded, tape = make_loaded(), Tape()
    loaded.model.decode_with(tape)
    plain, _ = play(PRESETS["wait"])
    answer, _ = play(PRESETS["wait"], loaded=loaded)
    assert answer == plain
    assert tape.num_replays > 40
    _, events = play(STAIRS, loaded=loaded)
    assert len(usages(events)) >= 3


def test_retries_around_a_session_leave_its_sight() -> None:
    async def main() -> None:
        model = TorchModel(Path(__file__).parent, threads=1)
        model.use(LOADED)
        agent = Agent(name="agg", model="m", reads=("p1",))
        for backend, sees in ((TorchBackend(model, "tiny"), True), (Blind(model, "tiny"), False)):
            retrying = Retrying(backend, attempts=2, rng=random.Random(0))
            session = await retrying.open(agent, question("Tell me about the sea."))
            assert session.reads_ahead == sees
        await model.aclose()

    asyncio.run(main())
