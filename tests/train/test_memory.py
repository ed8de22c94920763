"""How many layers are computed again: as few as fit, by what was measured, and more when memory runs out."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.config import Memory, Stage  # noqa: E402
from stairstream.train.data import Batch, Place, Row  # noqa: E402
from stairstream.train.memory import Costs, Planner, measure_costs, open_planner, plan  # noqa: E402
from stairstream.train.step import make_optimizer, nll_of, train_step  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.tiny import ALONE, CPU, make_row, state_of  # noqa: E402

COSTS = Costs(num_layers=4, fixed=1000, token_layer=10, token_input=1, learned_token=5)


def test_as_few_layers_as_fit_are_computed_again() -> None:
    for budget in range(1000, 6000, 7):
        again = plan(COSTS, 100, 20, budget)
        fits = [k for k in range(4) if COSTS.peak(100, 20, k) <= budget]
        assert again == (fits[0] if fits else 3), budget
    assert COSTS.peak(100, 20, 0) == 1000 + 100 + 4000
    assert COSTS.peak(100, 20, 3) == 1000 + 100 + 1000 + 300


def test_longer_rows_have_more_layers_computed_again() -> None:
    planner = Planner(Memory("gib", 1), COSTS, 4000)
    counts = [planner.count(make_row(size)) for size in (20, 70, 100, 400)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 3)
    row = make_row(70)
    while planner.shrink([row]):
        assert planner.count(row) > counts[1]
        counts[1] = planner.count(row)
    assert counts[1] == 3


def run_on(network: Any) -> Any:
    return lambda size: nll_of(network, make_row(size), CPU)


def test_what_is_measured_foretells_what_is_kept() -> None:
    network = make_network(1).train()
    costs = measure_costs(network, ALONE, run_on(network))
    assert costs.num_layers == 2
    # of a layer at least: its input, queries, keys, values, what attention gives, and five times the inner units
    assert costs.token_layer > 4 * (3 * 32 + 2 * 16 + 4 * 64)
    assert costs.fixed >= 16 * sum(one.numel() for one in network.parameters())


def test_a_budget_below_the_weights_is_refused() -> None:
    network = make_network(1).train()
    with pytest.raises(ConfigError, match=r"moments alone need .* GiB in each process"):
        open_planner(Memory("gib", 1e-6), network, ALONE, run_on(network))
    assert open_planner(Memory("auto"), network, ALONE, run_on(network)).count(make_row(50)) == 0


def test_a_step_that_runs_out_of_memory_is_repeated_with_more_computed_again() -> None:
    def learn(network: Any, planner: Planner) -> Any:
        batch = Batch(rows=(make_row(20), make_row(30)), after=Place())
        optimizer = make_optimizer(network, Stage(name="s", steps=1))
        return train_step(network, optimizer, batch, ALONE, planner, precision="float32", clip=1.0, lr=1e-2)

    def refuse(layer: Any, *_: Any) -> None:
        if not layer.gradient_checkpointing and tight:
            raise torch.OutOfMemoryError("no room")

    tight = True
    costs = Costs(num_layers=2, fixed=0, token_layer=2**20, token_input=1, learned_token=0)
    network, other = make_network(1).train(), make_network(1).train()
    network.model.layers[0].register_forward_pre_hook(refuse)
    tight_budget = Planner(Memory("gib", 1), costs, 2**28)
    with_room = Planner(Memory("none"), costs, 0)
    assert learn(network, tight_budget) == learn(other, with_room)
    assert tight_budget.count(make_row(30)) == 1
    weights, others = state_of(network), state_of(other)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    with pytest.raises(torch.OutOfMemoryError):
        learn(network, with_room)


def test_full_and_none_ask_nothing_of_the_row() -> None:
    network = make_network(1).train()
    for word, count in (("none", 0), ("full", 2)):
        planner = open_planner(Memory(word), network, ALONE, run_on(network))  # type: ignore[arg-type]
        assert planner.count(Row(samples=make_row(500).samples)) == count
