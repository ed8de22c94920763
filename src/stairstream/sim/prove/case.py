"""One case as plain data: a graph, the models that speak in it, its limits and its clients."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stairstream.backends.scripted.faults import Fault
from stairstream.backends.scripted.manner import Reported
from stairstream.core.adaptive import Rate
from stairstream.core.costs import Price
from stairstream.core.graph import Graph
from stairstream.core.messages import ToolCall
from stairstream.core.session import EndReason
from stairstream.engine.pace import Pace

PRICE = Price(prompt=1e3, completion=1e4)
"""Of every model, so that a reference needs not know which of them has spoken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCase:
    """A model: the tokens of its answer, when they come, and all by which it makes the engine's life hard.

    Every agent gets the same tokens, rotated by its name unless `is_alike`. `thoughts` come in front of the words of
    each call. `batches` are the numbers of tokens in its deltas, in turn; every `mute_every`-th token spells nothing.
    `pauses` are (token of a call, seconds). After a stop, `lag` more deltas come. `faults` are by number of the call,
    and `foreign` are the calls that raise an error that is none of ours. `attempts`, `hedge_after_s`,
    `max_concurrency` and `requests_per_minute` are those of the wrappers.
    """

    name: str
    tokens: tuple[str, ...]
    first_token_s: float = 0.5
    token_s: float = 0.125
    thoughts: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    is_alike: bool = False
    batches: tuple[int, ...] = (1,)
    mute_every: int | None = None
    pauses: tuple[tuple[int, float], ...] = ()
    lag: int = 0
    end: EndReason = "stop"
    usage: Reported = "exact"
    says_cached: bool = False
    begins_twice: bool = False
    open_s: float = 0.0
    warm_s: float = 0.0
    read_s: float = 0.0
    prefetch_s: float | None = None
    reads_ahead: bool = False
    faults: tuple[tuple[int, Fault], ...] = ()
    foreign: tuple[int, ...] = ()
    attempts: int = 1
    hedge_after_s: float | None = None
    max_concurrency: int | None = None
    requests_per_minute: float | None = None

    @property
    def rate(self) -> Rate:
        """All that can be known before of a steady model."""
        return Rate(
            first_token_s=self.first_token_s,
            tokens_per_s=1 / self.token_s,
            answer_tokens=float(len(self.tokens)),
            read_token_s=0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A reader of the events: it comes at `comes_s`, pauses after each batch, and after `leaves_after` events it
    leaves, to come back `away_s` later and read on from there."""

    comes_s: float = 0.0
    pause_s: float = 0.0
    leaves_after: int | None = None
    away_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deaths:
    """The deaths of a durable run's holders: each dies once the journal has so many entries, and another comes
    `away_s` later.

    Entries are kept together, `commit_s` after the first of them; a holder that dies has not kept the last ones.
    """

    after: tuple[int, ...] = ()
    away_s: float = 0.0
    commit_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine that has so many slots for the sessions of its models."""

    models: tuple[str, ...]
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that a run depends on: two runs of one case have the same events.

    With `knows_rates` the engine knows its models before. `others` are runs on the same models and engines that are
    there at the same time; their own `models`, `engines` and `others` mean nothing. A run comes at `comes_s`, and goes
    if it has no slots after `gives_up_s`. It gives up, and is left, so many `turns` of the loop after that moment:
    others may do something in just the turn before.
    """

    seed: int
    topology: str
    graph: Graph
    models: Mapping[str, ModelCase]
    written: str = ""
    deadline_s: float | None = None
    max_cost: float | None = None
    pace: Pace = "raw"
    leaves_s: float | None = None
    shut_down_s: float | None = None
    clients: tuple[Client, ...] = ()
    knows_rates: bool = False
    deaths: Deaths | None = None
    engines: tuple[Engine, ...] = ()
    comes_s: float = 0.0
    gives_up_s: float | None = None
    turns: int = 0
    others: tuple["Case", ...] = ()

    @property
    def runs(self) -> tuple["Case", ...]:
        """All that are there at the same time, this one first."""
        return (self, *(replace(one, models=self.models, engines=self.engines) for one in self.others))

    @property
    def rates(self) -> Mapping[str, Rate]:
        """Facts of its models that are known before."""
        return {name: model.rate for name, model in self.models.items()} if self.knows_rates else {}

    def slots_in(self, engine: Engine) -> int:
        """The slots of an engine that its run needs: one for each agent that may come to one of its models."""
        return sum(not set(engine.models).isdisjoint((one.model, *one.fallbacks)) for one in self.graph.agents)
