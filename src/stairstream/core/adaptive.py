"""A policy chosen from measured rates: small enough to start early, large enough that the answer does not stall and
that its prompt tokens stay within a budget. Pure; rates are moving estimates over earlier runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from stairstream.core.bounds import Bound, check_bounds
from stairstream.core.events import AgentEnded, Event, Noted, StepEnded, StepStarted, Wrote, as_written
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
    """Speed of one model: seconds to the first token of a call, tokens per second after it, tokens per answer.

    `read_tokens` are those of references and own words in front of such a call, on average, and `read_token_s` the
    seconds that each more of them takes; None where that is not known.
    """

    first_token_s: float
    tokens_per_s: float
    answer_tokens: float
    read_tokens: float = 0.0
    read_token_s: float | None = None


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
    """The moving estimates after one more run; an agent that another model has continued shows nothing."""
    meters = {agent.name: _Meter() for agent in graph.agents}
    for event in as_written(events):
        if isinstance(event, Wrote):
            meters[event.agent].write(event)
        elif isinstance(event, StepStarted):
            read = sum(meters[name].tokens for name in graph.agent(event.agent).reads)
            meters[event.agent].ask(event.at_s, read)
        elif isinstance(event, StepEnded):
            meters[event.agent].rest()
        elif isinstance(event, Noted) and event.note.kind == "failover":
            meters[event.agent].is_whole = False
        elif isinstance(event, AgentEnded) and event.reason not in ("stop", "length"):
            meters[event.agent].is_whole = False
    found = dict(rates)
    by_model: dict[str, list[_Meter]] = {}
    for agent in graph.agents:
        if meters[agent.name].is_whole:
            by_model.setdefault(agent.model, []).append(meters[agent.name])
    for model, its in by_model.items():
        if (seen := _sum_up(its, found.get(model))) is not None:
            found[model] = seen
    return found


class _Meter:
    """The rate that one agent's steps show."""

    def __init__(self) -> None:
        self.is_whole = True
        self.tokens = 0
        self.in_speech = 0
        self.speaking_s = 0.0
        self.calls: list[tuple[int, float]] = []
        """Tokens read and written, and seconds to the first token, of the calls that spoke."""
        self.cut: list[int] = []
        """Tokens read and written of the calls that were cut before they spoke."""
        self._asked: tuple[int, float] | None = None
        self._last_s = 0.0

    def ask(self, at_s: float, read_tokens: int) -> None:
        self._asked = read_tokens + self.tokens, at_s

    def write(self, event: Wrote) -> None:
        if self._asked is not None:
            size, asked_s = self._asked
            self.calls.append((size, event.at_s - asked_s))
            self._asked = None
        else:
            self.in_speech += event.num_tokens
            self.speaking_s += event.at_s - self._last_s
        self._last_s = event.at_s
        self.tokens += event.num_tokens

    def rest(self) -> None:
        if self._asked is not None:
            self.cut.append(self._asked[0])
            self._asked = None


def _sum_up(meters: Sequence[_Meter], old: Rate | None) -> Rate | None:
    """The rate of a model after a run in which its agents did that; the old one if they wrote too little to tell."""
    calls = [call for meter in meters for call in meter.calls]
    in_speech, speaking_s = sum(meter.in_speech for meter in meters), sum(meter.speaking_s for meter in meters)
    if not calls or in_speech < 1 or speaking_s <= 0:
        return None
    read_tokens, first_token_s = _mean([size for size, _ in calls]), _mean([time_s for _, time_s in calls])
    seen = Rate(
        first_token_s=first_token_s,
        tokens_per_s=in_speech / speaking_s,
        answer_tokens=_mean([meter.tokens for meter in meters if meter.calls]),
        read_tokens=read_tokens,
        read_token_s=_fit(calls, [call for meter in meters for call in meter.cut]),
    )
    return seen if old is None else _mix(old, seen)


LEAST_SPREAD_TOKENS = 16
"""Calls that read no more than so many tokens apart do not show what a token costs."""


def _fit(calls: Sequence[tuple[int, float]], cut: Sequence[int]) -> float | None:
    """Seconds that each more token takes in front of a call, by least squares; None where the calls do not show it.

    A call with less text that was cut before it had spoken was not as quick as it was hoped to be: then the text counts
    for nothing until calls show better, or such a call would be made, and cut, in every run.
    """
    mean_tokens, mean_s = _mean([size for size, _ in calls]), _mean([time_s for _, time_s in calls])
    spread = sum((size - mean_tokens) ** 2 for size, _ in calls)
    if max(abs(size - mean_tokens) for size, _ in calls) > LEAST_SPREAD_TOKENS:
        return max(0.0, sum((size - mean_tokens) * (time_s - mean_s) for size, time_s in calls) / spread)
    return 0.0 if any(size < mean_tokens for size in cut) else None


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _mix(old: Rate, new: Rate) -> Rate:
    def mixed(before: float, now: float) -> float:
        return before + NEW_SHARE * (now - before)

    read_token_s = new.read_token_s if old.read_token_s is None else old.read_token_s
    if old.read_token_s is not None and new.read_token_s is not None:
        read_token_s = mixed(old.read_token_s, new.read_token_s)
    return Rate(
        first_token_s=mixed(old.first_token_s, new.first_token_s),
        tokens_per_s=mixed(old.tokens_per_s, new.tokens_per_s),
        answer_tokens=mixed(old.answer_tokens, new.answer_tokens),
        read_tokens=mixed(old.read_tokens, new.read_tokens),
        read_token_s=read_token_s,
    )
