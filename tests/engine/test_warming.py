"""What can be done before the first chunk is done while an agent waits for others, and ends with its session."""

import asyncio
import math
from dataclasses import replace

from stairstream.backends.scripted import Fault, Script, ScriptedBackend, ScriptedSession, numbered_words
from stairstream.core.context import Context
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.policy import PRESETS
from stairstream.engine.run import open_run
from stairstream.sim.clock import run
from tests.engine.staircase import ASK, mixture


class Warming(ScriptedBackend):
    """Its sessions are warm after `warm_s`: when that began and ended, and whether it was done."""

    def __init__(self, name: str, warm_s: float = 0.25, fault: Fault | None = None) -> None:
        words = numbered_words(name, 8)
        super().__init__(Script(words=words, first_token_s=0.5, token_s=0.25, fault=fault), name)
        self.warm_s = warm_s
        self.warmed: list[tuple[float, float, bool]] = []

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> ScriptedSession:
        self.num_sessions += 1
        return _WarmingSession(self, Context(agent=agent, conversation=conversation, written=written))


class _WarmingSession(ScriptedSession):
    async def warm(self) -> None:
        assert isinstance(self._backend, Warming)
        loop = asyncio.get_running_loop()
        began_s, is_done = loop.time(), False
        try:
            await asyncio.sleep(self._backend.warm_s)
            is_done = True
        finally:
            self._backend.warmed.append((began_s, loop.time(), is_done))


def play(*models: Warming, fallbacks: tuple[str, ...] = ()) -> float:
    """When the run ends: agg reads p1 and p2, and may fall back."""
    graph = mixture(PRESETS["wait"], num_proposers=2)
    agents = tuple(replace(one, fallbacks=fallbacks) if one.name == "agg" else one for one in graph.agents)

    async def main() -> float:
        backends = {model.model: model for model in models}
        async with open_run(replace(graph, agents=agents), ASK, backends) as one:
            return [event async for event in one.events()][-1].at_s

    return run(main())


def test_an_agent_that_waits_for_others_warms_and_one_that_writes_at_once_does_not() -> None:
    models = [Warming(name) for name in ("p1", "p2", "agg")]
    play(*models)
    assert [model.warmed for model in models] == [[], [], [(0, 0.25, True)]]


def test_warming_that_never_ends_holds_nothing_and_ends_with_its_session() -> None:
    agg = Warming("agg", warm_s=math.inf)
    ended_s = play(Warming("p1"), Warming("p2"), agg)
    assert ended_s == 2 * (0.5 + 7 * 0.25)
    assert agg.warmed == [(0, ended_s, False)]


def test_each_model_that_takes_over_is_warmed_and_the_one_before_it_no_more() -> None:
    agg, spare = Warming("agg", math.inf, Fault(kind="status_500")), Warming("spare", math.inf)
    ended_s = play(Warming("p1"), Warming("p2"), agg, spare, fallbacks=("spare",))
    (broken_s,) = [at_s for _, at_s, _ in agg.warmed]
    assert 0.5 + 7 * 0.25 <= broken_s < ended_s
    assert spare.warmed == [(broken_s, ended_s, False)]
