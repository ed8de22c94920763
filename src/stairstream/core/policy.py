"""A policy is six numbers: when an agent starts, how often it reads again, how far it may run ahead. The decisions
that follow from them at a given moment are in `decisions`."""

import math
from dataclasses import dataclass
from typing import Literal

Quorum = int | Literal["all", "most"]
"""Number of upstream agents that must be there: a number, all, or `most`: all but one of three or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When an agent starts, how often it reads again, and how far it may run ahead.

    first_chunk  tokens that an upstream agent must have written before the first step (inf: until its end)
    growth       update k waits for first_chunk * (1 + growth + ... + growth^k) tokens
    quorum       how many upstream agents must have that much, or have ended
    patience_s   seconds to wait for the others once the quorum is there
    lead, slope  the agent may write lead + slope * (tokens it has read of the slowest counted upstream)

    What is not given never holds an agent back.
    """

    first_chunk: float = 16
    growth: float = 2
    quorum: Quorum = "most"
    patience_s: float = 0.25
    lead: float = math.inf
    slope: float = 1

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)

    @property
    def holds_back(self) -> bool:
        """Whether an agent that has begun may have to wait for its upstream."""
        return self.first_chunk < math.inf and self.lead < math.inf


def _problems(policy: Policy) -> list[str]:
    """Problems of the numbers, each as `name must be ..., not ...`."""
    found: list[str] = []
    if not policy.first_chunk >= 1 or (
        policy.first_chunk != math.inf and policy.first_chunk != int(policy.first_chunk)
    ):
        found.append(f"first_chunk must be a whole number of at least 1, or inf, not {policy.first_chunk}")
    if not 1 <= policy.growth < math.inf:
        found.append(f"growth must be a number of at least 1, not {policy.growth}")
    if isinstance(policy.quorum, str):
        if policy.quorum not in ("all", "most"):
            found.append(f"quorum must be a whole number of at least 1, all, or most, not {policy.quorum!r}")
    elif isinstance(policy.quorum, bool) or not float(policy.quorum).is_integer() or policy.quorum < 1:
        found.append(f"quorum must be a whole number of at least 1, all, or most, not {policy.quorum}")
    if not 0 <= policy.patience_s < math.inf:
        found.append(f"patience_s must be a number of seconds of at least 0, not {policy.patience_s}")
    if math.isnan(policy.lead) or policy.lead == -math.inf:
        found.append(f"lead must be a number of tokens or inf, not {policy.lead}")
    if not 0 < policy.slope < math.inf:
        found.append(f"slope must be a number above 0, not {policy.slope}")
    return found


PRESETS: dict[str, Policy] = {
    "paper": Policy(first_chunk=8, growth=1, quorum="all", patience_s=0, lead=0, slope=1),
    "balanced": Policy(first_chunk=16, growth=1.5, quorum="most", patience_s=0.25, lead=0, slope=0.4),
    "cheap": Policy(first_chunk=32, growth=4, quorum="most", patience_s=0.25, lead=0, slope=0.5),
    "careful": Policy(first_chunk=48, growth=1.5, quorum="all", patience_s=0.5, lead=0, slope=0.25),
    "wait": Policy(first_chunk=math.inf, growth=1, quorum="all", patience_s=0, lead=math.inf, slope=1),
}
"""`wait` is ordinary Mixture-of-Agents; `paper` is arXiv 2510.05059 with its first chunk of 8."""


MOST_EVEN = 40
"""Number of chunks that grow as the policy says; further ones double. With equal chunks of 8 these are 320 tokens."""


def mark_of(policy: Policy, k: int) -> float:
    """Tokens that an upstream must have written before step k: first_chunk * (1 + growth + ... + growth^k).

    From chunk `MOST_EVEN` on chunks at least double, so that the number of calls is bounded, however long the texts.
    """
    if k >= MOST_EVEN:
        last = chunk_of(policy, MOST_EVEN - 1)
        return mark_of(policy, MOST_EVEN - 1) + last * (_power(2, k - MOST_EVEN + 2) - 2)
    if policy.growth == 1:
        return policy.first_chunk * (k + 1)
    return policy.first_chunk * (_power(policy.growth, k + 1) - 1) / (policy.growth - 1)


def chunk_of(policy: Policy, k: int) -> float:
    """Tokens that step k writes at least before an update may end it: first_chunk * growth^k, doubled at the end."""
    steady = min(k, MOST_EVEN - 1)
    return policy.first_chunk * _power(policy.growth, steady) * _power(2, k - steady)


def _power(base: float, exponent: int) -> float:
    """base ** exponent, infinite where a float overflows."""
    try:
        return float(base) ** exponent
    except OverflowError:
        return math.inf


def quorum_of(policy: Policy, num_upstream: int) -> int:
    """The quorum as a number, for `num_upstream` upstream agents in all."""
    match policy.quorum:
        case "all":
            return num_upstream
        case "most":
            return num_upstream - 1 if num_upstream >= 3 else num_upstream
        case number:
            return min(number, num_upstream)
