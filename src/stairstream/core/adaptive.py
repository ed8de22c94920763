"""A policy chosen from measured rates: small enough to start early, large enough that the answer does not stall and
that its prompt tokens stay within a budget. Pure; rates are moving estimates over earlier runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from stairstream.core.bounds import Bound, check_bounds
from stairstream.core.events import Event, StepEnded, StepStarted, Wrote, as_written
from stairstream.core.graph import Agent, Graph
from stairstream.core.policy import PRESETS, Policy

NEW_SHARE = 0.3
"""Weight of the newest run in a moving estimate: half of it comes from the last two runs."""

LONGEST_SILENCE_SHARE = 0.25
"""If a model writes no faster than people read, silence is at most this share of the time that it speaks."""


HEAD_TOKENS = 120
"""Instructions, question and delimiters in front of the references of each call."""

_GROWTHS = (1.25, 1.5, 1.75, 2.0)
"""Never above 2: an update then reads at most as much again, so little is said on less than half of what was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Speed of one model: seconds to the first token of a call, tokens per second after it, tokens per answer."""

    first_token_s: float
    tokens_per_s: float
    answer_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """Bounds that an adaptive policy keeps.

    `max_prompt_tokens_factor` bounds the prompt tokens of the reading agent over those that `wait` would send;
    `reading_tokens_per_s` is how fast the answer is read, or spoken.
    """

    max_prompt_tokens_factor: Annotated[float, Bound(least=1)] = 3.0
    reading_tokens_per_s: Annotated[float, Bound(above=0)] = 10.0

    def __post_init__(self) -> None:
        check_bounds(self)


def adapt(upstream: Sequence[Rate], own: Rate, goals: Goals, base: Policy = PRESETS["balanced"]) -> Policy:
    """The policy for an agent with these rates; quorum, patience, lead and slope are those of `base`.

    first_chunk  c: at least so many tokens that what is said on them takes the reader longer to read, by the silence s
                 of a call, than the model to write them: c (m/v - 1/r) >= s, with v = reading_tokens_per_s, r and s the
                 agent's own rate and first token, m its slope (1 if its lead is infinite); no more than makes that
                 silence a quarter of the time spent speaking. Of those the fewest for which a growth keeps the budget.
    growth       g: the smallest, up to 2, for which `prompt_factor` is within the budget. Where there is none: wait.
    """
    assert upstream
    v, r, s = goals.reading_tokens_per_s, own.tokens_per_s, own.first_token_s
    said = base.slope if base.lead < math.inf else 1.0
    slack_s = max(said / v - 1 / r, LONGEST_SILENCE_SHARE / r)
    first_chunk = max(1, math.ceil(s / slack_s))
    longest = max(rate.answer_tokens for rate in upstream)
    while first_chunk < longest:
        for growth in _GROWTHS:
            policy = replace(base, first_chunk=first_chunk, growth=growth)
            if prompt_factor(upstream, own, policy) <= goals.max_prompt_tokens_factor:
                return policy
        first_chunk = math.ceil(first_chunk * 1.1)
    return replace(base, first_chunk=math.inf, growth=1)


def prompt_factor(upstream: Sequence[Rate], own: Rate, policy: Policy) -> float:
    """Prompt tokens of all calls over those of `wait`: the sum of (h + R(t) + w(t)) over the calls, over h + R(end).

    h is the head of a call, R(t) what its references hold t seconds after the first step, w(t) what the agent has
    written by then: r t, or what its policy lets it write if that is less. Update k is due at the time of its mark, but
    not before the step before it has written its own chunk, or all that it may; the last call is made when all upstream
    has ended, or the agent's own answer.
    """
    first_chunk = policy.first_chunk
    slowest = min(rate.tokens_per_s for rate in upstream)
    end_s = max((rate.answer_tokens - first_chunk) / rate.tokens_per_s for rate in upstream)
    own_end_s = own.first_token_s + own.answer_tokens / own.tokens_per_s
    if policy.lead + policy.slope * max(rate.answer_tokens for rate in upstream) < own.answer_tokens:
        own_end_s = max(own_end_s, end_s)

    def allowed_tokens(at_s: float) -> float:
        return max(0.0, policy.lead + policy.slope * (first_chunk + slowest * at_s))

    def said_tokens(at_s: float) -> float:
        return min(own.tokens_per_s * at_s, own.answer_tokens, allowed_tokens(at_s))

    def call_tokens(at_s: float) -> float:
        read = sum(min(first_chunk + rate.tokens_per_s * at_s, rate.answer_tokens) for rate in upstream)
        return HEAD_TOKENS + read + said_tokens(at_s)

    mark, chunk, at_s, total = first_chunk, float(first_chunk), 0.0, 0.0
    while at_s < min(end_s, own_end_s):
        own_end_s += own.first_token_s
        total += call_tokens(at_s)
        may_say = min(chunk, allowed_tokens(at_s) - said_tokens(at_s))
        written_s = at_s + (own.first_token_s + may_say / own.tokens_per_s if may_say else 0.0)
        chunk *= policy.growth
        mark += chunk
        at_s = max((mark - first_chunk) / slowest, written_s)
    last = call_tokens(min(end_s, own_end_s))
    return (total + last) / (HEAD_TOKENS + sum(rate.answer_tokens for rate in upstream))


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
    found, events = dict(rates), as_written(events)
    for agent in graph.agents:
        seen = _measure(events, agent.name)
        if seen is not None:
            found[agent.model] = _mix(found.get(agent.model), seen)
    return found


def _measure(events: Sequence[Event], agent: str) -> Rate | None:
    """The rate that one agent's steps show; None if it wrote too little to tell."""
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
