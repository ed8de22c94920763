"""Closed forms of what a staircase does. Pure; times are seconds, lengths and marks are tokens.

Symbols: N proposers, f first chunk, g growth, r tokens per second, c seconds from a call to its first token.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from stairstream.core.policy import Policy, mark_of, quorum_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposer:
    """An upstream agent's writing: its first token after `first_token_s`, then `tokens_per_s`, `length` tokens."""

    first_token_s: float
    tokens_per_s: float
    length: int

    def written_s(self, tokens: float) -> float:
        """When it has written so many tokens, or has ended."""
        return self.first_token_s + (min(tokens, self.length) - 1) / self.tokens_per_s


def wait_first_token_s(proposers: Sequence[Proposer], call_s: float) -> float:
    """TTFT of ordinary Mixture-of-Agents: max_i T(R_i) + T_prefill (arXiv 2510.05059)."""
    return max(one.written_s(one.length) for one in proposers) + call_s


def staircase_first_token_s(policy: Policy, proposers: Sequence[Proposer], call_s: float) -> float:
    """TTFT of the staircase: T(R_{i,1}) of the quorum, the others waited for with patience, + T_prefill.

    With a quorum of all it is max_i T(R_{i,1}) + T_prefill (arXiv 2510.05059).
    """
    return step_due_s(policy, proposers, mark_of(policy, 0)) + call_s


def step_due_s(policy: Policy, proposers: Sequence[Proposer], mark: float) -> float:
    """When a quorum of the proposers has written `mark` tokens or ended, and the others had `patience_s`."""
    at_s = sorted(one.written_s(mark) for one in proposers)
    return min(at_s[-1], at_s[quorum_of(policy, len(at_s)) - 1] + policy.patience_s)


def free_total_s(due_s: float, silences_s: Sequence[float], length: int, tokens_per_s: float) -> float:
    """The total of an answer of K calls that nothing holds back: T(R_{i,1}) + sum(s_k) + (L - K) / r.

    From its first call, at `due_s`, until its end an agent either writes or is silent: for s_k = T_call + T_prefill(k)
    until the first token of call k. So an update costs its silence, and less than a token's time that it cuts off: the
    total is at most (K - 1) / r more. Our derivation.
    """
    return due_s + math.fsum(silences_s) + (length - len(silences_s)) / tokens_per_s


def expected_quorum_s(quorum: int, num_agents: int, mean_s: float) -> float:
    """The expected time until `quorum` of `num_agents` independent, exponentially distributed times have passed.

    The order statistic: mean * (H_n - H_{n-k}), H the harmonic numbers (Rényi 1953).
    """
    return mean_s * math.fsum(1 / left for left in range(num_agents - quorum + 1, num_agents + 1))


def pipeline_speedup(agents: int, steps: int) -> float:
    """The most that a chain of A agents in S steps each gains over one after the other: A*S / (S + A - 1).

    Decoding dominates (arXiv 2606.05158).
    """
    return agents * steps / (steps + agents - 1)


def pipeline_speedup_with_calls(agents: int, steps: int, step_s: float, call_s: float) -> float:
    """The same, where every call is silent for `call_s` and then reads and writes a step in `step_s`.

    One after the other an agent makes one call, in the pipeline one for each step:
    A * (c + S*d) / ((S + A - 1) * (c + d)). Our derivation from the formula above.
    """
    return agents * (call_s + steps * step_s) / ((steps + agents - 1) * (call_s + step_s))


def marks_within(policy: Policy, length: int) -> tuple[float, ...]:
    """The marks f * (1 + g + ... + g^k) below `length`: each is an update that is due before the texts have ended."""
    found: list[float] = []
    while (mark := mark_of(policy, len(found))) < length:
        found.append(mark)
    return tuple(found)


def prompt_factor(policy: Policy, length: int) -> float:
    """Reference tokens sent over those that `wait` sends: each update sends all so far, the last one everything.

    1 + sum(m_k) / L over the marks m_k below the length L; with growth g it stays below 1 + g / (g - 1).
    """
    return 1 + math.fsum(marks_within(policy, length)) / length


def least_longest_gap_s(policy: Policy, length: int, tokens_per_s: float) -> float:
    """No schedule of an answer that keeps to lead and slope has a shorter longest gap than this.

    Before the call of mark m_{k+1} can speak, lead + slope * m_k words can have been shown; spread evenly from the
    first one they leave gaps of (m_{k+1} - m_0) / (r * (lead + slope * m_k)), or more. Our derivation.
    """
    if policy.lead == math.inf:
        return 0.0
    marks = (*marks_within(policy, length), float(length))
    gaps = [
        (later - marks[0]) / tokens_per_s / max(1.0, policy.lead + policy.slope * earlier)
        for earlier, later in pairwise(marks)
    ]
    return max(gaps, default=0.0)
