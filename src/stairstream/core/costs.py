"""The cost of a run, as a pure function of its events and a price table."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from stairstream.core.bounds import Bound, check_bounds
from stairstream.core.events import Called, Event, Noted, StepEnded, Thought, Wrote
from stairstream.core.graph import Agent
from stairstream.core.session import Note, Usage

_Money = Annotated[float, Bound(least=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Money per million tokens. `cached` None: cached tokens cost as others; `cache_write` None: writing is free.

    Some providers bill every prompt token that was not cached once more as written to the cache (1.25x in all): then
    `cache_write` is that whole price, in place of `prompt`.
    """

    prompt: _Money
    completion: _Money
    cached: _Money | None = None
    cache_write: _Money | None = None

    def __post_init__(self) -> None:
        check_bounds(self)


def cost_of(usage: Usage, price: Price) -> float:
    """Money for the tokens of a call, or of several; unknown cached tokens count as not cached."""
    cached = usage.cached_tokens or 0
    fresh = price.prompt if price.cache_write is None else price.cache_write
    read = price.prompt if price.cached is None else price.cached
    return ((usage.prompt_tokens - cached) * fresh + cached * read + usage.completion_tokens * price.completion) / 1e6


def usage_by_model(events: Iterable[Event], agent: Agent) -> dict[str, Usage]:
    """Usage of an agent's model, and of each fallback that took over."""
    models = iter((agent.model, *agent.fallbacks))
    model, found = next(models), dict[str, Usage]()
    for event in events:
        if isinstance(event, StepEnded) and event.agent == agent.name:
            found[model] = found[model] + event.usage if model in found else event.usage
        elif isinstance(event, Noted) and event.agent == agent.name and event.note.kind == "failover":
            model = next(models)
    return found


def cost_of_agent(events: Iterable[Event], agent: Agent, prices: Mapping[str, Price]) -> float | None:
    """Money for one agent; `prices` are by model. None: a model that it used has none."""
    used = usage_by_model(events, agent)
    if any(model not in prices for model in used or (agent.model,)):
        return None
    return sum((cost_of(usage, prices[model]) for model, usage in used.items()), 0.0)


class Meter:
    """Adds up as events come. A call in flight counts with the tokens that it has written, its prompt when it ends.

    Calls of a step that came to nothing count at once, by the notes on them, as a step may try many times.
    """

    def __init__(self, agents: Iterable[Agent], prices: Mapping[str, Price]) -> None:
        """`prices` are by model; a model without one is free."""
        self._prices = prices
        self._models = {agent.name: deque((agent.model, *agent.fallbacks)) for agent in agents}
        self._ended = 0.0
        self._under_way: dict[str, float] = {}

    @property
    def cost(self) -> float:
        """Money so far."""
        return self._ended + sum(self._under_way.values())

    def take(self, event: Event) -> None:
        """Count an event."""
        match event:
            case Wrote() | Thought() | Called():
                self._add(event.agent, Usage(completion_tokens=event.num_tokens))
            case Noted(note=Note(usage=Usage() as usage)):
                self._add(event.agent, usage)
            case StepEnded():
                if price := self._price_of(event.agent):
                    self._under_way.pop(event.agent, None)
                    self._ended += cost_of(event.usage, price)
            case Noted(note=Note(kind="failover")):
                self._models[event.agent].popleft()
            case _:
                pass

    def _add(self, agent: str, usage: Usage) -> None:
        """Adds to the step in flight, whose end counts all of it anew."""
        if price := self._price_of(agent):
            self._under_way[agent] = self._under_way.get(agent, 0.0) + cost_of(usage, price)

    def _price_of(self, agent: str) -> Price | None:
        return self._prices.get(self._models[agent][0])
