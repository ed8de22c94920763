"""The expected ends of upstream agents and latencies of calls, by this run so far, else by earlier runs. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stairstream.core.adaptive import Rate
from stairstream.core.decisions import Own, Upstream
from stairstream.core.graph import Agent, Graph
from stairstream.core.worth import SHARE, Outlook

SLOWEST_PREFILL_TOKENS_PER_S = 500
"""Where it is not known how much longer a call takes for more text, at most this slowly: so a call with little text is
made rather than not."""

MEASURED_TOKENS = 4
"""An agent that has written so many tokens after its first ones shows its own speed."""

LENGTH_CAUTION = 1.1
"""An agent whose text is longer than this factor times what was expected has an unknown end."""


@dataclass(frozen=True, slots=True)
class Speech:
    """When an agent began to speak in this run, with how many tokens, and when it last did."""

    begun_s: float
    first_tokens: int
    heard_s: float


@dataclass(frozen=True, slots=True)
class FirstCall:
    """An agent's first call in this run, once it has spoken: the tokens that it had read, and its silence."""

    num_read: int
    latency_s: float


@dataclass(frozen=True, slots=True)
class _Source:
    """Facts known beforehand of an upstream agent: its rate, its length, and whether it has to wait for others."""

    rate: Rate
    tokens: float
    waits: bool


class Foresight:
    """Makes the outlook of one agent, as far as the rates of its models are known."""

    def __init__(self, graph: Graph, agent: Agent, rates: Mapping[str, Rate], budget: float = math.inf) -> None:
        """`budget` bounds the agent's prompt tokens over those that `wait` sends."""
        self._rate = rates.get(agent.model)
        self._budget = budget
        self._share = SHARE / max(1, graph.agent(graph.answer).depth)
        self._max_tokens = agent.sampling.max_tokens
        self._policy = agent.policy
        self._sources = [_source_of(graph.agent(name), rates) for name in agent.reads]

    def outlook(
        self,
        upstream: Sequence[Upstream],
        speeches: Sequence[Speech | None],
        own: Own,
        first_call: FirstCall | None,
        now: float,
        head_tokens: int,
        spent_tokens: int,
    ) -> Outlook:
        """As it is now; without the speed of the agent's own model, nothing of times is known.

        `head_tokens` are those of a call besides what was read and written, `spent_tokens` those of all prompts so far.
        """
        told = [
            _end_s(one, speech, source, now)
            for one, speech, source in zip(upstream, speeches, self._sources, strict=True)
        ]
        here = sum(one.num_written for one in upstream)
        whole = sum(
            one.num_written if one.has_ended or source is None else max(one.num_written, source.tokens)
            for one, source in zip(upstream, self._sources, strict=True)
        )
        answer_tokens = min(self._max_tokens, self._rate.answer_tokens if self._rate else math.inf)
        # the call now, and the one that reads everything, with as many own words as it may have written by then
        own_tokens = max(own.num_written, self._own_tokens(upstream, answer_tokens))
        to_pay = 2 * head_tokens + here + own.num_written + whole + own_tokens
        is_over_budget = spent_tokens + to_pay > self._budget * (head_tokens + whole)
        if self._rate is None:
            unknown_s = math.inf
            return Outlook(
                ends_s=told,
                call_s=unknown_s,
                call_most_s=unknown_s,
                last_call_s=unknown_s,
                is_over_budget=is_over_budget and own.num_written > 0,
            )
        calls = _Calls(self._rate, first_call)
        in_flight = sum(one.num_read for one in upstream)
        return Outlook(
            ends_s=told,
            call_s=calls.least_s(here + own.num_written),
            call_most_s=calls.most_s(in_flight),
            last_call_s=calls.most_s(whole),
            writing_s=max(0.0, answer_tokens - 1) / self._rate.tokens_per_s,
            share=self._share,
            is_over_budget=is_over_budget,
        )

    def _own_tokens(self, upstream: Sequence[Upstream], answer_tokens: float) -> float:
        """Tokens that the agent may have written when all upstream has ended."""
        lengths = [source.tokens for source in self._sources if source]
        longest = max([*lengths, *(one.num_written for one in upstream)], default=0.0)
        allowed = min(answer_tokens, max(0.0, self._policy.lead + self._policy.slope * longest))
        return min(allowed, longest) if self._rate is None else allowed


def _source_of(agent: Agent, rates: Mapping[str, Rate]) -> _Source | None:
    if (rate := rates.get(agent.model)) is None:
        return None
    return _Source(rate, min(rate.answer_tokens, agent.sampling.max_tokens), bool(agent.reads))


def _end_s(one: Upstream, speech: Speech | None, source: _Source | None, now: float) -> float:
    """When an upstream agent ends; infinite where that is not known."""
    if one.has_ended:
        return now
    if source is None:
        return math.inf
    if speech is None:  # it is asked, and silent
        if source.waits or one.silent_since == math.inf:
            return math.inf
        end_s = one.silent_since + source.rate.first_token_s + (source.tokens - 1) / source.rate.tokens_per_s
    else:
        if one.num_written > LENGTH_CAUTION * source.tokens:
            return math.inf
        rate = _measured(one, speech)
        if rate is None:
            if source.waits:
                return math.inf
            rate = source.rate.tokens_per_s
        end_s = speech.heard_s + max(0.0, source.tokens - one.num_written) / rate
    return max(now, end_s)


def _measured(one: Upstream, speech: Speech) -> float | None:
    """Tokens per second in this run, of one that has spoken for a while."""
    tokens, time_s = one.num_written - speech.first_tokens, speech.heard_s - speech.begun_s
    return tokens / time_s if tokens >= MEASURED_TOKENS and 0 < time_s < math.inf else None


class _Calls:
    """The silence of the agent's calls, by the tokens that they have read and written."""

    def __init__(self, rate: Rate, first_call: FirstCall | None) -> None:
        self._per_token_s = rate.read_token_s
        if first_call is not None:
            self._tokens, self._latency_s = float(first_call.num_read), first_call.latency_s
        else:
            self._tokens, self._latency_s = rate.read_tokens, rate.first_token_s

    def most_s(self, tokens: float) -> float:
        """At most: where it is not known what more text costs, as long as the calls so far."""
        return self._at(tokens, self._per_token_s or 0.0)

    def least_s(self, tokens: float) -> float:
        """At least: where that is not known, with less text much shorter."""
        unknown = 1 / SLOWEST_PREFILL_TOKENS_PER_S if tokens < self._tokens else 0.0
        return self._at(tokens, unknown if self._per_token_s is None else self._per_token_s)

    def _at(self, tokens: float, per_token_s: float) -> float:
        found = self._latency_s + per_token_s * (tokens - self._tokens)
        share = min(1.0, tokens / self._tokens) if self._tokens else 1.0
        return max(found, self._latency_s * share)
