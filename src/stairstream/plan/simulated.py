"""A backend for simulations: as many words as it is told, as fast as a cost model and the other calls at hand allow."""

from collections.abc import AsyncGenerator, Sequence

from stairstream.backends.base import Session
from stairstream.backends.scripted import count_cached, numbered_words, words_of
from stairstream.core.context import Context
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.prompts import render, settle
from stairstream.core.session import Began, Chunk, Delta, Ended, EndReason, Layout, Setting, Takes, Usage, WriteItem
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.processor import Processor, Work

_TEMPLATE = "<template>"


class SimulatedBackend:
    """One agent's model: it says `length` words, each a token, on a processor that it may share with others."""

    room = None
    takes: frozenset[Takes | Setting] = frozenset()

    def __init__(self, costs: EndpointCosts, processor: Processor, length: int, model: str) -> None:
        self.model = model
        self.costs = costs
        self.processor = processor
        self.words = numbered_words("w", length)

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "SimulatedSession":
        """A session, which begins its answer: nothing is continued in a simulation."""
        assert not written
        return SimulatedSession(self, Context(agent=agent, conversation=conversation))

    async def aclose(self) -> None:
        """Nothing is shared."""


class SimulatedSession(Session):
    """A session on such a backend. A prompt has as many tokens as it has words between white space, and the template's
    before them."""

    def __init__(self, backend: SimulatedBackend, context: Context) -> None:
        self._backend = backend
        self._context = context
        self._num_said = 0
        self._seen: list[list[str]] = []
        self._work: Work | None = None
        self._is_stopped = False

    async def read(self, chunks: Sequence[Chunk]) -> None:
        """Let the references grow; their prefill is paid by the next write."""
        self._context.read(chunks)

    async def write(self, limit: int) -> AsyncGenerator[WriteItem, None]:
        """The next words, each when it is due; the last one ends the write as the model's own end."""
        self._is_stopped = False
        costs, layout = self._backend.costs, settle(self._context.agent.layout or "grouped", self._context)
        prompt = [_TEMPLATE] * round(costs.template_tokens) + words_of(render(self._context, layout))
        cached = count_cached(self._seen, prompt) if costs.caches else None
        yield _began(layout, len(prompt))
        first, words = self._num_said, self._backend.words[self._num_said :]
        try:
            with self._backend.processor.work(costs) as self._work:
                await self._work.sleep(costs.call_s)
                await self._work.prompt(costs.prompt_s(len(prompt), cached or 0), len(prompt))
                for number, word in enumerate(words[:limit]):
                    await self._work.reach(number)
                    if self._is_stopped:
                        break
                    self._num_said += 1
                    self._context.wrote(word)
                    yield Delta(word, 1)
        finally:
            self._work = None
            said = self._backend.words[first : self._num_said]
            self._seen = [*self._seen[-1:], prompt + [word.strip() for word in said]]
        reason: EndReason = "stopped" if self._is_stopped else "limit" if limit < len(words) else "stop"
        usage = Usage(prompt_tokens=len(prompt), cached_tokens=cached, completion_tokens=len(said))
        yield Ended(reason=reason, usage=usage)

    def stop(self) -> None:
        """End the write in flight now, even between two words."""
        self._is_stopped = True
        if self._work is not None:
            self._work.stop()

    async def aclose(self) -> None:
        """Nothing is kept."""
        self.stop()


def _began(layout: Layout, prompt_tokens: int) -> Began:
    return Began(layout=layout, why="a simulation takes any", prompt_tokens=prompt_tokens, is_estimate=False)
