"""Sessions that can read ahead are shown what they will read first, while it is being written."""

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import pytest

from stairstream.backends.base import Backend
from stairstream.backends.hedge import Hedged
from stairstream.backends.limits import Limited
from stairstream.backends.retry import Retrying
from stairstream.backends.scripted import Script, ScriptedBackend, ScriptedSession
from stairstream.core.context import Context
from stairstream.core.events import StepStarted
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Chunk
from tests.engine.staircase import mixture, play, scripted

pytestmark = pytest.mark.manners

WAIT = PRESETS["wait"]
FIRST_32 = Policy(first_chunk=32, growth=1, quorum="all", patience_s=0, lead=math.inf)


class Foreseeing(ScriptedBackend):
    """A scripted model whose sessions read ahead: what they were shown, and when."""

    def __init__(self, script: Script) -> None:
        super().__init__(script, "agg")
        self.shown: list[tuple[float, dict[str, str], set[str]]] = []
        self.can_see = True

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self.num_sessions += 1
        return _ForeseeingSession(self, Context(agent=agent, conversation=conversation, written=written))


class _ForeseeingSession(ScriptedSession):
    @property
    def reads_ahead(self) -> bool:
        assert isinstance(self._backend, Foreseeing)
        return self._backend.can_see

    def foresee(self, chunks: Sequence[Chunk]) -> None:
        assert isinstance(self._backend, Foreseeing)
        texts = {chunk.agent: chunk.text for chunk in chunks}
        finals = {chunk.agent for chunk in chunks if chunk.is_final}
        self._backend.shown.append((asyncio.get_running_loop().time(), texts, finals))


def backends(length: int) -> tuple[Foreseeing, Mapping[str, ScriptedBackend]]:
    found = scripted(length=length)
    agg = Foreseeing(found["agg"].script)
    return agg, {**found, "agg": agg}


@pytest.mark.one_by_one
def test_under_wait_each_16_tokens_and_each_end_are_shown_before_the_first_step() -> None:
    agg, models = backends(length=40)
    run, events = play(mixture(WAIT, num_proposers=2), models)
    assert run.answer == "".join(agg.script.words)
    assert len(agg.calls) == 1
    (step,) = [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"]
    counts = [{name: len(text.split()) for name, text in texts.items()} for _, texts, _ in agg.shown]
    # token i (from 0) of a proposer comes at 0.5 + 0.25 * i; after each call the next one is 16 tokens of any log away
    assert [(at_s, count) for (at_s, _, _), count in zip(agg.shown, counts, strict=True)][:2] == [
        (4.25, {"p1": 16, "p2": 15}),
        (8.0, {"p1": 31, "p2": 31}),
    ]
    assert agg.shown[-1][2] <= {"p1", "p2"} and agg.shown[-1][0] <= step.at_s
    joined = [text for _, texts, _ in agg.shown for name, text in texts.items() if name == "p1"]
    assert all(later.startswith(earlier) for earlier, later in pairwise(joined))


def test_nothing_is_shown_once_the_agent_has_begun() -> None:
    agg, models = backends(length=100)
    _, events = play(mixture(FIRST_32), models)
    first = next(event for event in events if isinstance(event, StepStarted) and event.agent == "agg")
    assert first.at_s == 0.5 + 0.25 * 31
    assert [at_s for at_s, _, _ in agg.shown] and all(at_s <= first.at_s for at_s, _, _ in agg.shown)


def test_being_shown_changes_no_event() -> None:
    _, models = backends(length=40)
    _, with_sight = play(mixture(WAIT), models)
    _, without = play(mixture(WAIT), scripted(length=40))
    assert with_sight[1:] == without[1:]  # the first has the run's id


def test_sessions_that_cannot_read_ahead_are_left_alone() -> None:
    agg, models = backends(length=40)
    agg.can_see = False
    run, _ = play(mixture(WAIT), models)
    assert run.answer == "".join(agg.script.words)
    assert agg.shown == []


@pytest.mark.parametrize(
    "wrap",
    [
        partial(Retrying, attempts=3, rng=random.Random(0)),
        partial(Hedged, hedge_after_s=60),
        partial(Limited, max_concurrency=1),
        partial(Limited, requests_per_minute=6),
    ],
)
def test_reading_ahead_passes_through_every_wrapper(wrap: Callable[[Backend], Backend]) -> None:
    agg, models = backends(length=40)
    play(mixture(WAIT), models)
    plain, agg.shown = agg.shown, []
    play(mixture(WAIT), {**models, "agg": wrap(agg)})
    assert agg.shown == plain != []
