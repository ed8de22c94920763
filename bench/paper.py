"""The latency table of arXiv 2510.05059 as a simulation, each number beside the published one, as Markdown.

python -m bench.paper            with the constants that `--fit` found
python -m bench.paper --fit      finds them again: minutes, needs scipy

Published: the times and speeds. Not published: lengths, speeds of proposers, prefill, later chunks. So the best
single model's time to first token and speed are taken from its row; chunks after the first are as long as it, all
upstreams are waited for, and the answer writes no faster than it reads (the preset `paper`); and the constants of
`Fit` are fitted, seven of them to fourteen numbers. Debates are one round and an answer that reads it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from bench.arguments import arguments
from stairstream.core.graph import Graph, Sampling
from stairstream.core.metrics import Summary
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.topologies import mixture
from stairstream.plan.endpoints import EndpointCosts
from stairstream.plan.simulating import simulate
from stairstream.plan.texts import Lengths

SINGLE_FIRST_S, SINGLE_PER_S = 0.06, 69.4
PROPOSERS, ANSWER = "proposer", "answer"
CACHED = "MoA + staircase + prefix caching"
PUBLISHED: Mapping[str, tuple[float, float | None]] = {
    "best single model": (SINGLE_FIRST_S, SINGLE_PER_S),
    "MAD": (6.70, 35.9),
    "MAD + staircase": (0.45, 44.7),
    "MoA": (10.6, 28.3),
    "MoA + staircase": (0.47, 43.4),
    CACHED: (0.45, 45.0),
    "MoA + staircase, first chunk 4": (0.42, None),
    "MoA + staircase, first chunk 32": (0.70, None),
}
"""Seconds to the first token, and tokens per second of the whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The constants that are not published; `mad_tokens` is the length of a debater's turn."""

    call_s: float = 0.1916
    proposer_token_s: float = 0.01045
    prefill_token_s: float = 2.607e-06
    answer_token_s: float = 0.01458
    proposer_tokens: float = 920.1
    mad_tokens: float = 627.5
    answer_tokens: float = 588.5


def play(graph: Graph, fit: Fit, proposer_tokens: float, *, is_cached: bool) -> Summary:
    """One run."""
    cached_token_s = 0.0 if is_cached else fit.prefill_token_s
    shared = EndpointCosts(
        call_s=fit.call_s,
        tokens_per_s={1: 1.0},
        prefill_token_s=fit.prefill_token_s,
        cached_token_s=cached_token_s,
    )
    costs = {
        PROPOSERS: replace_speed(shared, fit.proposer_token_s),
        ANSWER: replace_speed(shared, fit.answer_token_s),
    }
    lengths = {
        agent.name: round(fit.answer_tokens if agent.name == graph.answer else proposer_tokens)
        for agent in graph.agents
    }
    return simulate(graph, costs, Lengths(agents=lengths))


def replace_speed(costs: EndpointCosts, token_s: float) -> EndpointCosts:
    """The same endpoint with another time per token."""
    return EndpointCosts(
        call_s=costs.call_s,
        tokens_per_s={1: 1 / token_s},
        prefill_token_s=costs.prefill_token_s,
        cached_token_s=costs.cached_token_s,
    )


def simulated(fit: Fit) -> dict[str, tuple[float, float]]:
    """The table's numbers as simulated."""

    def of(policy: Policy, proposer_tokens: float, *, is_cached: bool = False) -> tuple[float, float]:
        graph = mixture(
            proposers=[PROPOSERS] * 3,
            aggregator=ANSWER,
            policy=policy,
            sampling={name: Sampling(max_tokens=10_000) for name in (PROPOSERS, ANSWER)},
        )
        found = play(graph, fit, proposer_tokens, is_cached=is_cached)
        assert found.first_token_s is not None
        return found.first_token_s, round(fit.answer_tokens) / found.total_s

    paper, wait, tokens = PRESETS["paper"], PRESETS["wait"], fit.proposer_tokens
    alone_s = SINGLE_FIRST_S + (round(fit.answer_tokens) - 1) * fit.answer_token_s
    return {
        "best single model": (SINGLE_FIRST_S, round(fit.answer_tokens) / alone_s),
        "MAD": of(wait, fit.mad_tokens),
        "MAD + staircase": of(paper, fit.mad_tokens),
        "MoA": of(wait, tokens),
        "MoA + staircase": of(paper, tokens),
        CACHED: of(paper, tokens, is_cached=True),
        "MoA + staircase, first chunk 4": of(replace(paper, first_chunk=4), tokens),
        "MoA + staircase, first chunk 32": of(replace(paper, first_chunk=32), tokens),
    }


def residuals(fit: Fit) -> list[float]:
    """Logarithms of simulated over published, for every number that was."""
    found = simulated(fit)
    return [
        math.log(ours / theirs)
        for name, published in PUBLISHED.items()
        for ours, theirs in zip(found[name], published, strict=True)
        if theirs is not None
    ]


def search(start: Fit) -> Fit:
    """The constants with the least squares of residuals."""
    from scipy.optimize import minimize

    def loss(point: Sequence[float]) -> float:
        return sum(one**2 for one in residuals(make_fit([math.exp(value) for value in point])))

    begin = [math.log(value) for value in astuple(start)]
    options = {"maxfev": 250, "xatol": 0.003, "fatol": 1e-5}
    return make_fit([math.exp(value) for value in minimize(loss, begin, method="Nelder-Mead", options=options).x])


def make_fit(values: Sequence[float]) -> Fit:
    """Constants in the order of the fields, to four digits."""
    return Fit(**{name: float(f"{value:.4g}") for name, value in zip(Fit.__dataclass_fields__, values, strict=True)})


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__)
    parser.add_argument("--fit", action="store_true")
    fit = search(Fit()) if parser.parse_args().fit else Fit()
    print(f"{fit}\n\n| system | TTFT s: published, simulated | tokens/s: published, simulated |\n|---|---|---|")
    found = simulated(fit)
    for name, published in PUBLISHED.items():
        cells = (
            "-" if theirs is None else f"{theirs:g}, {ours:.3g} ({ours / theirs - 1:+.1%})"
            for ours, theirs in zip(found[name], published, strict=True)
        )
        print(f"| {name} | {' | '.join(cells)} |")
    own = residuals(fit)
    print(f"\nroot mean square of the residuals: {math.sqrt(sum(one**2 for one in own) / len(own)):.1%}")


if __name__ == "__main__":
    main()
