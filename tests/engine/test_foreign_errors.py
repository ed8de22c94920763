"""Whatever reading a model's answer raises ends that agent's try, and goes to its fallback; nobody else's."""

from collections.abc import AsyncGenerator

import pytest

from stairstream.backends.base import Backend, Session
from stairstream.backends.hedge import Hedged
from stairstream.backends.scripted import Script, ScriptedBackend, ScriptedSession
from stairstream.core.context import Context
from stairstream.core.events import AgentEnded, RunEnded
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation, question
from stairstream.core.session import WriteItem
from stairstream.engine.run import open_run
from stairstream.sim.clock import run


class Raising(ScriptedBackend):
    """Its reading fails after the first word, or before it."""

    def __init__(self, exc: Exception, *, at_once: bool = False) -> None:
        super().__init__(Script(words=("Well ", "then.")), "odd")
        self.exc = exc
        self.at_once = at_once

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:  # type: ignore[override]
        return _RaisingSession(self, Context(agent=agent, conversation=conversation, written=written))


class _RaisingSession(ScriptedSession):
    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        items = super().write(limit)
        assert isinstance(self._backend, Raising)
        yield await anext(items)
        if not self._backend.at_once:
            yield await anext(items)
        await items.aclose()
        raise self._backend.exc


async def outcome(graph: Graph, exc: Exception) -> tuple[str, RunEnded, dict[str, AgentEnded]]:
    fine = ScriptedBackend(Script(words=("All ", "fine.")), "fine")
    backends: dict[str, Backend] = {"odd": Raising(exc), "fine": fine}
    async with open_run(graph, question("Why?"), backends) as going:
        events = [event async for event in going.events()]
    end = events[-1]
    assert isinstance(end, RunEnded)
    return going.answer, end, {event.agent: event for event in events if isinstance(event, AgentEnded)}


ERRORS = [UnicodeDecodeError("utf-8", b"\xe2", 0, 1, "bad"), RecursionError("deep"), KeyError("x"), OverflowError()]


@pytest.mark.parametrize("exc", ERRORS, ids=lambda exc: type(exc).__name__)
def test_a_proposer_fails_alone(exc: Exception) -> None:
    agents = (
        Agent(name="p", model="odd"),
        Agent(name="q", model="fine"),
        Agent(name="answer", model="fine", reads=("p", "q")),
    )
    answer, end, ends = run(outcome(Graph(agents=agents, answer="answer"), exc))
    assert (answer, end.reason) == ("All fine.", "stop")
    error = ends["p"].error
    assert ends["p"].reason == "failed" and error is not None
    assert error.startswith("odd: ") and type(exc).__name__ in error and "\n" not in error


@pytest.mark.parametrize("exc", ERRORS, ids=lambda exc: type(exc).__name__)
def test_a_fallback_goes_on(exc: Exception) -> None:
    graph = Graph(agents=(Agent(name="answer", model="odd", fallbacks=("fine",)),), answer="answer")
    answer, end, _ = run(outcome(graph, exc))
    assert (answer, end.reason) == ("Well fine.", "stop")  # it goes on behind the first word


class RaisingSecond(ScriptedBackend):
    """Its first session is slow and fine, its second breaks at once."""

    def __init__(self, exc: Exception) -> None:
        super().__init__(Script(words=("Well ", "then."), first_token_s=4), "odd")
        self._exc = exc

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:  # type: ignore[override]
        self.num_opened = getattr(self, "num_opened", 0) + 1
        if self.num_opened > 1:
            raise self._exc
        return await super().open(agent, conversation, written)


@pytest.mark.parametrize("exc", ERRORS, ids=lambda exc: type(exc).__name__)
def test_a_second_try_fails_alone(exc: Exception) -> None:
    async def main() -> tuple[str, RunEnded]:
        graph = Graph(agents=(Agent(name="answer", model="odd"),), answer="answer")
        async with open_run(graph, question("Why?"), {"odd": Hedged(RaisingSecond(exc), hedge_after_s=1)}) as going:
            events = [event async for event in going.events()]
        end = events[-1]
        assert isinstance(end, RunEnded)
        return going.answer, end

    answer, end = run(main())
    assert (answer, end.reason) == ("Well then.", "stop")


@pytest.mark.parametrize("exc", ERRORS, ids=lambda exc: type(exc).__name__)
def test_a_first_try_that_breaks_in_a_race_says_what_it_was(exc: Exception) -> None:
    async def main() -> RunEnded:
        graph = Graph(agents=(Agent(name="answer", model="odd"),), answer="answer")
        async with open_run(
            graph, question("Why?"), {"odd": Hedged(Raising(exc, at_once=True), hedge_after_s=1)}
        ) as one:
            await one.wait_ended()
        end = one.past[-1]
        assert isinstance(end, RunEnded)
        return end

    end = run(main())
    assert end.error is not None and type(exc).__name__ in end.error and "Group" not in end.error
