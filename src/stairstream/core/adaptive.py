"""A policy chosen from measured rates: small enough to start early, large enough that the answer does not stall and
that its prompt tokens stay within a budget. Pure; rates are moving estimates over earlier runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stairstream.core.events import Event, StepEnded, StepStarted, Wrote
from stairstream.core.graph import Agent, Graph
from stairstream.core.policy import PRESETS, Policy

NEW_SHARE = 0.3
"""Weight of the newest run in a moving estimate: half of it comes from the last two runs."""

LONGEST_SILENCE_SHARE = 0.25
"""Where a model writes no faster than people read, silence is at most this share of the time that it speaks."""


HEAD_TOKENS = 120
"""Instructions, question and delimiters in front of the references of each call."""

_GROWTHS = tuple(1.25 * 1.1**k for k in range(45))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How one model behaves: seconds to the first token of a call, tokens per second after it, tokens per answer."""

    first_token_s: float
    tokens_per_s: float
    answer_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What an adaptive policy holds.

    `max_prompt_tokens_factor` bounds the prompt tokens of the reading agent over those that `wait` would send;
    `reading_tokens_per_s` is how fast the answer is read, or spoken.
    """

    max_prompt_tokens_factor: float = 3.0
    reading_tokens_per_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.max_prompt_tokens_factor >= 1:
            raise ValueError(f"max_prompt_tokens_factor must be at least 1, not {self.max_prompt_tokens_factor}")
        if not self.reading_tokens_per_s > 0:
            raise ValueError(f"reading_tokens_per_s must be above 0, not {self.reading_tokens_per_s}")


def adapt(upstream: Sequence[Rate], own: Rate, goals: Goals, base: Policy = PRESETS["balanced"]) -> Policy:
    """The policy for an agent with these rates; quorum, patience and lead are those of `base`.

    first_chunk  c: the fewest tokens that take the reader longer to read, by the silence s of a call, than the model to
                 write: c (1/v - 1/r) >= s, with v = reading_tokens_per_s, r and s the agent's own rate and first token;
                 never more than that silence is a quarter of the time spent speaking.
    growth       g: the smallest for which `prompt_factor` is within the budget. Where none is, one early step and the
                 update that completes the references; where even that costs too much, wait.
    """
    assert upstream
    v, r, s = goals.reading_tokens_per_s, own.tokens_per_s, own.first_token_s
    slack_s = max(1 / v - 1 / r, LONGEST_SILENCE_SHARE / r)
    first_chunk = max(1, math.ceil(s / slack_s))
    longest = max(rate.answer_tokens for rate in upstream)
    budget = goals.max_prompt_tokens_factor
    if first_chunk < longest:
        for growth in _GROWTHS:
            if prompt_factor(upstream, own, first_chunk, growth) <= budget:
                return replace(base, first_chunk=first_chunk, growth=growth)
        if _share(upstream, own) * (1 + first_chunk / longest) + 2 * HEAD_TOKENS / _final(upstream) <= budget:
            return replace(base, first_chunk=first_chunk, growth=2 * longest / first_chunk)
    return replace(base, first_chunk=math.inf, growth=1)


def prompt_factor(upstream: Sequence[Rate], own: Rate, first_chunk: float, growth: float) -> float:
    """Prompt tokens of all calls over those of `wait`, at most: (1 + u) (1 + g / (g - 1)) + k h / (n L).

    Marks grow by g, so those before the end L add up to less than g / (g - 1) times the last of them, which is less
    than L; the update that completes adds L. The agent's own words, of which it writes r while its n upstreams write p
    each, add u = r / (n p) to each upstream token. Each of the k calls has a head of h tokens besides.
    """
    longest = max(rate.answer_tokens for rate in upstream)
    calls = 2 + max(0.0, math.log(longest / first_chunk, growth))
    return _share(upstream, own) * (1 + growth / (growth - 1)) + calls * HEAD_TOKENS / _final(upstream)


def _share(upstream: Sequence[Rate], own: Rate) -> float:
    """1 + u: an upstream token and what the agent has written for it."""
    return 1 + own.tokens_per_s / sum(rate.tokens_per_s for rate in upstream)


def _final(upstream: Sequence[Rate]) -> float:
    """n L: the tokens of all references together."""
    return sum(rate.answer_tokens for rate in upstream)


def adapt_graph(graph: Graph, rates: Mapping[str, Rate], goals: Goals, adaptive: Sequence[str]) -> Graph:
    """The graph with the policies of the `adaptive` agents adapted, where the rates of all their models are known."""
    agents = [_adapt_agent(graph, agent, rates, goals) if agent.name in adaptive else agent for agent in graph.agents]
    return replace(graph, agents=tuple(agents))


def _adapt_agent(graph: Graph, agent: Agent, rates: Mapping[str, Rate], goals: Goals) -> Agent:
    models = [graph.agent(name).model for name in agent.reads]
    if not models or any(model not in rates for model in (agent.model, *models)):
        return agent
    return replace(agent, policy=adapt([rates[model] for model in models], rates[agent.model], goals, agent.policy))


def observe(rates: Mapping[str, Rate], graph: Graph, events: Sequence[Event]) -> dict[str, Rate]:
    """The moving estimates after one more run."""
    found = dict(rates)
    for agent in graph.agents:
        seen = _measure(events, agent.name)
        if seen is not None:
            found[agent.model] = _mix(found.get(agent.model), seen)
    return found


def _measure(events: Sequence[Event], agent: str) -> Rate | None:
    """What one agent's steps show; None if it wrote too little to tell."""
    waits_s, speaking_s, tokens, in_speech = [], 0.0, 0, 0
    step_at_s, first_at_s, last_at_s = 0.0, None, 0.0
    for event in events:
        if isinstance(event, StepStarted) and event.agent == agent:
            step_at_s, first_at_s = event.at_s, None
        elif isinstance(event, Wrote) and event.agent == agent:
            if first_at_s is None:
                first_at_s = event.at_s
                waits_s.append(event.at_s - step_at_s)
            else:
                in_speech += event.num_tokens
            last_at_s = event.at_s
            tokens += event.num_tokens
        elif isinstance(event, StepEnded) and event.agent == agent and first_at_s is not None:
            speaking_s += last_at_s - first_at_s
    if not waits_s or in_speech < 1 or speaking_s <= 0:
        return None
    return Rate(
        first_token_s=sum(waits_s) / len(waits_s), tokens_per_s=in_speech / speaking_s, answer_tokens=float(tokens)
    )


def _mix(old: Rate | None, new: Rate) -> Rate:
    if old is None:
        return new
    return Rate(
        first_token_s=old.first_token_s + NEW_SHARE * (new.first_token_s - old.first_token_s),
        tokens_per_s=old.tokens_per_s + NEW_SHARE * (new.tokens_per_s - old.tokens_per_s),
        answer_tokens=old.answer_tokens + NEW_SHARE * (new.answer_tokens - old.answer_tokens),
    )
