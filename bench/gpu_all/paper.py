"""The staircase on one card: three proposers and an aggregator of one model in one batch.

The floor of the first token is the decode of the first chunk and one prefill of the chunks: bytes of the weights over
the measured bandwidth for each step, operations over the measured product for the prefill.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.gpu_all.results import Goal, Number
from bench.gpu_all.setup import Card, Setup, device_name, wait_for_device
from bench.random_model import make_random
from bench.sessions import POLICIES, PROPOSERS, Late, Row, measure, mixture
from stairstream.backends.torch.backend import TorchBackend, TorchModel
from stairstream.core.graph import Agent, Graph, Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import Layout

_LAYOUTS: tuple[Layout, ...] = ("insert", "rounds", "grouped")
_CASE_S = 12.0
_SPEEDUP = ("(16, 2)", 1.6)
"""The policy whose answer must be so many times as fast as that of `wait`."""


def run(setup: Setup) -> None:
    """Measures `single`, `wait` and each policy in each layout."""
    asyncio.run(_run(setup))


async def _run(setup: Setup) -> None:
    device = device_name()
    loaded = make_random(setup.size, device, "bfloat16" if device == "cuda" else "float32")
    tokens = 16 if setup.is_tiny else 512
    with TemporaryDirectory() as folder:
        model = TorchModel(Path(folder))
        model.use(loaded)
        try:
            await _measure_all(setup, TorchBackend(model, setup.size), loaded.model.network, tokens)
        finally:
            await model.aclose()


async def _measure_all(setup: Setup, backend: TorchBackend, network: Any, tokens: int) -> None:
    policies: dict[str, Policy] = {"paper": PRESETS["paper"], "balanced": PRESETS["balanced"]}
    policies[_SPEEDUP[0]] = POLICIES[_SPEEDUP[0]]
    await measure(mixture(policies[_SPEEDUP[0]], "insert", min(tokens, 64)), backend)  # to warm up: graphs and buffers
    alone = Agent(name="agg", model="m", sampling=Sampling(max_tokens=tokens, temperature=0))
    card, size = setup.card(), Size.of(network)
    setup.add("single", _numbers(await _one(Graph(agents=(alone,), answer="agg"), backend), card, size))
    wait = await _one(mixture(PRESETS["wait"], None, tokens), Late(backend))
    setup.add("wait", _numbers(wait, card, size))
    for name, policy in policies.items():
        for layout in _LAYOUTS:
            case = f"{name} {layout}"
            if setup.has(_CASE_S, case):
                row = await _one(mixture(policy, layout, tokens), backend)
                setup.add(case, _numbers(row, card, size, policy, wait), *_goals(name, layout, row, card, size, policy))


async def _one(graph: Graph, backend: Any) -> Row:
    wait_for_device()
    return await measure(graph, backend)


class Size:
    """Bytes of the weights that a decode step reads, and operations per token of a prefill."""

    def __init__(self, num_bytes: float, flops_per_token: float) -> None:
        self.num_bytes = num_bytes
        self.flops_per_token = flops_per_token

    @classmethod
    def of(cls, network: Any) -> "Size":
        """The size of a network; rows of the embedding are looked up, not read whole."""
        embedding = network.get_input_embeddings().weight
        weights = [one for one in network.parameters() if one is not embedding]
        return cls(
            num_bytes=sum(one.numel() * one.element_size() for one in weights),
            flops_per_token=2 * sum(one.numel() for one in weights),
        )


def step_floor_s(card: Card, size: Size) -> float:
    """The least time of a decode step: each weight is read once."""
    return size.num_bytes / card.bytes_per_s


def _numbers(
    row: Row, card: Card | None, size: Size, policy: Policy | None = None, wait: Row | None = None
) -> dict[str, Number]:
    answer = row.summary.agents[-1]
    numbers: dict[str, Number] = {
        "first_s": row.summary.first_token_s,
        "gap_ms": 1e3 * row.summary.longest_gap_s,
        "total_s": row.summary.total_s,
        "tokens_per_s": _speed(row),
        "step_ms": 1e3 * row.step_s,
        "computed": row.computed,
        "distinct": row.distinct,
        "steps": answer.steps,
    }
    if card is not None:
        numbers["step_floor_ms"] = 1e3 * step_floor_s(card, size)
    if wait is not None:
        numbers["speed_of_wait"] = _speed(row) / _speed(wait)
    if policy is not None and card is not None:
        floor_s = first_floor_s(policy, card, size)
        numbers["first_floor_s"] = floor_s
        numbers["first_of_floor"] = (row.summary.first_token_s or 0) / floor_s
        numbers["step_of_floor"] = row.step_s / step_floor_s(card, size)
        numbers["gap_steps"] = row.summary.longest_gap_s / row.step_s
    return numbers


def first_floor_s(policy: Policy, card: Card, size: Size) -> float:
    """The least time to the first token: the first chunk is written, then all proposers' chunks are read at once."""
    chunk = min(policy.first_chunk, 1e6)
    return (chunk + 1) * step_floor_s(card, size) + len(PROPOSERS) * chunk * size.flops_per_token / card.flops


def _speed(row: Row) -> float:
    """Tokens of the answer per second of the whole run."""
    return row.summary.agents[-1].usage.completion_tokens / row.summary.total_s


def _goals(name: str, layout: Layout, row: Row, card: Card | None, size: Size, policy: Policy) -> tuple[Goal, ...]:
    if card is None:
        return ()
    goals = [Goal(number="first_of_floor", bound=1.15), Goal(number="step_of_floor", bound=1.3)]
    if layout == "insert":
        goals.append(Goal(number="gap_steps", bound=2))
    if (name, layout) == (_SPEEDUP[0], "insert"):
        goals.append(Goal(number="speed_of_wait", bound=_SPEEDUP[1], is_most=False))
    return tuple(goals)
