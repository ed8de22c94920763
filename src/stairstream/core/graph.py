"""Agents and who reads whom. A graph is checked when it is made: what exists can run."""

from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Literal

from stairstream.core.bounds import Bound, check_bounds
from stairstream.core.edges import Edges
from stairstream.core.errors import GraphError
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout, Setting, Takes
from stairstream.core.wording import Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling settings of a model; None leaves them to the backend. `stop` is matched in our code."""

    max_tokens: int = 1024
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    stop: tuple[str, ...] = ()


_NOTHING: frozenset[Takes] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Options of a request for the answering agent besides sampling; JSON as the wire has it, not looked into."""

    response_format: bytes | None = field(default=None, repr=False)
    tools: bytes | None = field(default=None, repr=False)
    tool_choice: bytes | None = field(default=None, repr=False)
    parallel_tool_calls: bool | None = None
    user: str | None = field(default=None, repr=False)
    settings: tuple[tuple[Setting, bytes], ...] = field(default=(), repr=False)

    @property
    def needs(self) -> frozenset[Takes]:
        """Abilities that a model must have for that."""
        if self.tools is None and self.response_format is None:
            return _NOTHING
        given: dict[Takes, bytes | None] = {"tools": self.tools, "response_format": self.response_format}
        return frozenset(name for name, value in given.items() if value is not None)


Forward = Literal["answer", "thinking", "both"]
"""The part of a reasoning model's output that its readers see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Upstream agents whose first `over_tokens` tokens say the same: when `agree` of them do, one writes on for all.

    `similarity` is the share of words that two beginnings have in common (Jaccard index of their lower-cased words).
    """

    agree: Annotated[int, Bound(least=2)] = 2
    over_tokens: Annotated[int, Bound(least=1)] = 64
    similarity: Annotated[float, Bound(above=0, most=1)] = 0.9

    def __post_init__(self) -> None:
        check_bounds(self)


THINKING_TOKENS = 4096
"""Default limit of a call's thoughts, in tokens; `max_tokens` if that is more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A model with a role, sampling limits, and the agents that it reads.

    `model` is a name among the run's backends. `layout` None takes the best that the backend can do. A call whose
    first token takes longer than `first_token_s`, or that pauses for longer than `gap_s`, counts as failed (None waits
    for ever), and one that thinks for more than `thinking_tokens`. When the model fails for good, the next of
    `fallbacks` continues the words already there. `forward` is the part that its readers get to see; `edges` (with
    `delimiter` for sections) where the chunks that it reads may end; `context_tokens` what its model's context holds;
    `agreement` when its upstream may stop early. With `one_call` it answers once its quorum has ended, and never
    updates: for a model that would think anew at every update.
    `extras` are options of a request; `begun` are words of the client that its answer continues: they are
    part of its context, and not of what it writes.
    `depth` is set by the graph: how far the agent is from those that read no agent.
    """

    name: str
    model: str
    reads: tuple[str, ...] = ()
    instructions: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    policy: Policy = PRESETS["balanced"]
    layout: AskedLayout | None = None
    wording: Wording = field(default_factory=Wording)
    first_token_s: float | None = None
    gap_s: float | None = None
    thinking_tokens: int | None = None
    fallbacks: tuple[str, ...] = ()
    forward: Forward = "answer"
    edges: Edges = "token"
    delimiter: str | None = None
    context_tokens: int | None = None
    one_call: bool = False
    agreement: Agreement | None = None
    extras: Extras = field(default_factory=Extras)
    begun: str = field(default="", repr=False)
    depth: int = 0

    @property
    def most_thoughts(self) -> int:
        """Tokens of thoughts that one call may have."""
        if self.thinking_tokens is not None:
            return self.thinking_tokens
        return max(THINKING_TOKENS, self.sampling.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Agents in any order, one of which is the answer. Raises GraphError that names the culprit."""

    agents: tuple[Agent, ...]
    answer: str

    def __post_init__(self) -> None:
        names = [agent.name for agent in self.agents]
        for name in names:
            if names.count(name) > 1:
                raise GraphError(f"two agents are called {name!r}; give each its own name")
        if self.answer not in names:
            raise GraphError(f"no agent is called {self.answer!r}, which should answer; there are {_list(names)}")
        known = set(names)
        for agent in self.agents:
            for upstream in agent.reads:
                if upstream not in known:
                    raise GraphError(f"agent {agent.name!r} reads {upstream!r}, which is none of {_list(names)}")
            if len(set(agent.reads)) < len(agent.reads):
                raise GraphError(f"agent {agent.name!r} reads the same agent twice")
        self._check_cycle()
        self._check_reach()
        object.__setattr__(self, "agents", self._with_depths())

    def _check_cycle(self) -> None:
        try:
            TopologicalSorter({agent.name: agent.reads for agent in self.agents}).prepare()
        except CycleError as exc:
            # graphlib lists each agent before the one that reads it
            raise GraphError(f"agents read each other in a circle: {' -> '.join(exc.args[1])}") from None

    def _with_depths(self) -> tuple[Agent, ...]:
        depths: dict[str, int] = {}
        for name in TopologicalSorter({agent.name: agent.reads for agent in self.agents}).static_order():
            depths[name] = max((depths[upstream] + 1 for upstream in self.agent(name).reads), default=0)
        return tuple(replace(agent, depth=depths[agent.name]) for agent in self.agents)

    def _check_reach(self) -> None:
        reached, frontier = {self.answer}, [self.answer]
        while frontier:
            for upstream in self.agent(frontier.pop()).reads:
                if upstream not in reached:
                    reached.add(upstream)
                    frontier.append(upstream)
        for agent in self.agents:
            if agent.name not in reached:
                raise GraphError(f"agent {agent.name!r} is read by no agent on the way to {self.answer!r}")

    def agent(self, name: str) -> Agent:
        """The agent of that name; KeyError if there is none."""
        for agent in self.agents:
            if agent.name == name:
                return agent
        raise KeyError(name)

    def readers(self, name: str) -> tuple[str, ...]:
        """The agents that read `name`."""
        return tuple(agent.name for agent in self.agents if name in agent.reads)


def _list(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
