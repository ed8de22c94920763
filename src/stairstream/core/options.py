"""The options of one request, and graphs rewritten for them, as pure functions."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stairstream.core.graph import Agent, Extras, Graph
from stairstream.core.policy import PRESETS
from stairstream.core.session import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """Options of one request for its answer; None, or empty, leaves it to the pipeline.

    Only `seed` is for every agent. `response_format`, `tools`, `tool_choice` and the values of `settings` are JSON, as
    the wire has it. `stop` comes on top of what the pipeline says, everything else replaces it. `pace` is that at which
    the answer is shown.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: bytes | None = field(default=None, repr=False)
    tools: bytes | None = field(default=None, repr=False)
    tool_choice: bytes | None = field(default=None, repr=False)
    parallel_tool_calls: bool | None = None
    user: str | None = field(default=None, repr=False)
    settings: tuple[tuple[Setting, bytes], ...] = field(default=(), repr=False)
    pace: Literal["even", "raw"] | None = None

    @property
    def waits(self) -> bool:
        """Whether the answer has a form that can't be updated half-way: calls of tools, or JSON."""
        return self.tools is not None or self.response_format is not None

    @property
    def names_tool(self) -> bool:
        """Whether one tool is named that must be called: then there is nothing that the answer chooses."""
        return self.tool_choice is not None and self.tool_choice.startswith(b"{")


NO_OPTIONS = RequestOptions()


def ask_of(graph: Graph, options: RequestOptions) -> Graph:
    """The graph as the request wants it. With tools or a format the answering agent waits for all that it reads."""
    if options == NO_OPTIONS:
        return graph

    def change(agent: Agent) -> Agent:
        if agent.name == graph.answer:
            return _answering(agent, options)
        if options.seed is None:
            return agent
        return replace(agent, sampling=replace(agent.sampling, seed=derive_seed(options.seed, agent.name)))

    return _change_agents(graph, change)


def begin_with(graph: Graph, written: str) -> Graph:
    """The graph with an answering agent that continues these words, which are not its own."""
    if not written:
        return graph
    return _change_agents(graph, lambda agent: replace(agent, begun=written) if agent.name == graph.answer else agent)


def leave_alone(graph: Graph) -> Graph:
    """The answering agent alone: the proposals are not made again when only the result of a tool has come."""
    agent = replace(graph.agent(graph.answer), reads=(), agreement=None, one_call=False)
    return Graph(agents=(agent,), answer=graph.answer)


def derive_seed(seed: int, agent: str) -> int:
    """An agent's own seed, the same every time: samples of one model must not be the same text."""
    digest = hashlib.blake2b(f"{seed} {agent}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


def _answering(agent: Agent, options: RequestOptions) -> Agent:
    """The answering agent has the request's own seed: a pipeline of a single model gives what that model gives."""
    given: dict[str, Any] = {
        "max_tokens": options.max_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
    }
    sampling = replace(agent.sampling, **{name: value for name, value in given.items() if value is not None})
    extras = Extras(
        response_format=options.response_format,
        tools=options.tools,
        tool_choice=options.tool_choice,
        parallel_tool_calls=options.parallel_tool_calls,
        user=options.user,
        settings=options.settings,
    )
    return replace(
        agent,
        sampling=replace(sampling, stop=tuple(dict.fromkeys((*sampling.stop, *options.stop)))),
        extras=extras,
        policy=PRESETS["wait"] if options.waits else agent.policy,
    )


def _change_agents(graph: Graph, change: Callable[[Agent], Agent]) -> Graph:
    return replace(graph, agents=tuple(change(agent) for agent in graph.agents))
