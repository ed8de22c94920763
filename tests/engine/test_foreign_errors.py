"""Whatever reading a model's answer raises ends that agent's try, and goes to its fallback; nobody else's."""

from collections.abc import AsyncGenerator

import pytest

from stairstream.backends.base import Backend, Session
from stairstream.backends.scripted import Script, ScriptedBackend, ScriptedSession
from stairstream.core.context import Context
from stairstream.core.events import AgentEnded, RunEnded
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation, question
from stairstream.core.session import WriteItem
from stairstream.engine.run import open_run
from stairstream.sim.clock import run


class Raising(ScriptedBackend):
    """Its reading fails behind the first word."""

    def __init__(self, exc: Exception) -> None:
        super().__init__(Script(words=("Well ", "then.")), "odd")
        self.exc = exc

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> Session:  # type: ignore[override]
        return _RaisingSession(self, Context(agent=agent, conversation=conversation, written=written))


class _RaisingSession(ScriptedSession):
    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        items = super().write(limit)
        yield await anext(items)
        yield await anext(items)
        await items.aclose()
        assert isinstance(self._backend, Raising)
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
