"""What layers keep is foretold by what was measured, and never changes what is learned."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.config import Memory, Parallel, Stage  # noqa: E402
from stairstream.train.data import Batch, Cursor, Row  # noqa: E402
from stairstream.train.failures import OutOfMemory  # noqa: E402
from stairstream.train.head import tokens_at_once, use_loss_head  # noqa: E402
from stairstream.train.memory import Planner, make_simple, open_planner  # noqa: E402
from stairstream.train.memory.applying import set_levels  # noqa: E402
from stairstream.train.memory.costs import ATTENTION, Bytes, Costs, Key, LayerCosts  # noqa: E402
from stairstream.train.memory.live import LiveBytes  # noqa: E402
from stairstream.train.memory.planner import (  # noqa: E402
    count_state,
    layers_in_flight,
    make_costs,
    measure_costs,
    most_layers,
    share_of_words,
)
from stairstream.train.memory.planning import Level, make_ladder  # noqa: E402
from stairstream.train.memory.wrapping import is_wrapped, unwrap, wrap, wrapping  # noqa: E402
from stairstream.train.step import cast, make_optimizer, nll_of, train_step  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.tiny import ALONE, CPU, make_row, state_of  # noqa: E402

PRODUCT = "aten.mm.default"
PRODUCTS = tuple((PRODUCT, number) for number in range(7))


def run_on(network: Any) -> Any:
    """Rows of two samples, which see only themselves."""

    def run(size: int) -> Any:
        with cast(ALONE, "bfloat16"):
            return nll_of(network, make_row(size // 2, size - size // 2), CPU)

    return run


def measure(wanted_tokens: int = 64) -> tuple[Any, Costs]:
    network = make_network(1).train()
    return network, measure_costs(network, ALONE, run_on(network), wanted_tokens)


def learn(network: Any, level: Level, size: int) -> tuple[float, list[Any], int]:
    """The loss, the gradients and the most bytes of a row at one level."""
    set_levels(network, [level] * 2)
    network.zero_grad(set_to_none=True)
    with LiveBytes() as live:
        nll = run_on(network)(size)
        nll.backward()
    return float(nll.detach()), [one.grad.clone() for one in network.parameters()], live.most


def test_bytes_that_are_alive_are_counted() -> None:
    with LiveBytes() as live:
        one = torch.zeros(1000, dtype=torch.float32)
        view = one[10:]
        assert live.now == 4000
        del one
        assert live.now == 4000
        del view
        assert (live.now, live.most) == (0, 4000)
    torch.zeros(9000)
    assert live.most == 4000


def test_what_is_measured_foretells_what_is_kept() -> None:
    network, costs = measure()
    layer = costs.layer
    assert layer.entry == Bytes(token=4 * 32)
    # cast weights; norms, queries, keys, values, what attention gives, inner units; a mask
    assert layer.whole.once == 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    assert layer.whole.pair == 2
    assert layer.work.at(100) > layer.whole.at(100) > 100 * (3 * 32 + 2 * 16 + 4 * 64)
    few, *_, all_of_it = make_ladder(costs)
    for tokens in (40, 100):
        held = []
        for last in (few, all_of_it):
            set_levels(network, [few, last])
            with LiveBytes() as live:
                kept = run_on(network)(tokens)
            held.append(live.now)
            del kept
        assert held[1] - held[0] == layer.whole.at(tokens) - layer.entry.at(tokens)


def test_attention_and_products_are_what_is_kept_first() -> None:
    _, costs = measure(256)
    assert ATTENTION in {one.key for one in costs.layer.operations}
    products = [one for one in costs.layer.operations if one.key[0] == PRODUCT]
    assert [one.size.token for one in products] == [64, 32, 32, 64, 128, 128]  # the last is not computed again
    assert all(one.ms > 0 for one in costs.layer.operations)


@pytest.mark.parametrize("kept", [(), (ATTENTION,), (ATTENTION, *PRODUCTS)], ids=["none", "attention", "products"])
def test_no_bit_depends_on_what_is_kept(kept: tuple[Key, ...]) -> None:
    network = make_network(1).train()
    everything = Level(kept=None, size=Bytes(), ms=0)
    loss, grads, most = learn(network, everything, 80)
    found, others, less = learn(network, Level(kept=frozenset(kept), size=Bytes(), ms=0), 80)
    assert found == loss
    assert all(torch.equal(one, other) for one, other in zip(grads, others, strict=True))
    assert less < most


def test_no_bit_depends_on_where_inputs_wait() -> None:
    network = make_network(1).train()
    loss, grads, _ = learn(network, Level(kept=frozenset(), size=Bytes(), ms=0), 50)
    found, others, _ = learn(network, Level(kept=frozenset(), size=Bytes(), ms=0, offloads=True), 50)
    assert found == loss
    assert all(torch.equal(one, other) for one, other in zip(grads, others, strict=True))


def test_a_budget_is_filled_and_not_more() -> None:
    network, costs = measure()
    costs = Costs(num_layers=2, layer=costs.layer, probed_tokens=64)  # the tiny head is larger than the layers
    row = make_row(100, 100)
    levels = [Planner(Memory("gib", 1), costs, budget).levels(row) for budget in range(0, 1_200_000, 20_000)]
    assert levels == sorted(levels)
    assert levels[0] == (0, 0)
    assert levels[-1] == (len(make_ladder(costs)) - 1,) * 2
    planner = Planner(Memory("gib", 1), costs, 400_000)
    planner.prepare(network, row)
    assert [is_wrapped(layer) for layer in network.model.layers] == [
        planner.ladder[level].kept is not None for level in planner.levels(row)
    ]


def test_a_stage_of_the_layers_keeps_its_share() -> None:
    planner = Planner(Memory("gib", 1), Costs(num_layers=4, layer=LayerCosts(entry=Bytes(token=1))), 1)
    network = make_network(1).train()
    planner.prepare(network, make_row(10))
    assert [is_wrapped(layer) for layer in network.model.layers] == [True, True]


def test_a_budget_that_cant_hold_is_refused_with_the_least_that_would_do() -> None:
    network = make_network(1).train()
    tight = open_planner(Memory("gib", 1e-6), network, ALONE, run_on(network), print, most_tokens=64)
    with pytest.raises(ConfigError, match=r"stage 'one' needs at least 0.00\d GiB .* 50 tokens, 20 of them learned"):
        tight.check("one", 50, 20)
    least = tight.least_bytes(50, 20)
    enough = open_planner(Memory("gib", least / 2**30), network, ALONE, run_on(network), print, most_tokens=64)
    enough.check("one", 50, 20)
    with pytest.raises(ConfigError, match=r"in each process, .*; 0.00\d are allowed. What needs less: more processes"):
        enough.check("one", 51, 20)
    planner = open_planner(Memory("auto"), network, ALONE, run_on(network), print, most_tokens=64)
    assert {planner.ladder[level].kept for level in planner.levels(make_row(50))} == {None}


def test_a_step_that_runs_out_of_memory_is_repeated_with_more_computed_again() -> None:
    def learn(network: Any, planner: Planner) -> Any:
        batch = Batch(rows=(make_row(20), make_row(30)), after=Cursor())
        optimizer = make_optimizer(network, Stage(name="s", steps=1))
        return train_step(network, optimizer, batch, ALONE, planner, precision="float32", clip=1.0, lr=1e-2)

    def refuse(layer: Any, *_: Any) -> None:
        if not is_wrapped(layer) and tight:
            raise torch.OutOfMemoryError("no room")

    tight = True
    layer = LayerCosts(whole=Bytes(token=2**20), entry=Bytes(token=1), work=Bytes(token=2**20))
    network, other = make_network(1).train(), make_network(1).train()
    network.model.layers[0].register_forward_pre_hook(refuse)
    tight_budget = Planner(Memory("gib", 1), Costs(num_layers=2, layer=layer), 2**28)
    with_room = make_simple(Memory("none"), 2)
    assert learn(network, tight_budget) == learn(other, with_room)
    assert tight_budget.levels(make_row(30)) == (0, 1)
    weights, others = state_of(network), state_of(other)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    with pytest.raises(OutOfMemory, match=r"longest row has 30 tokens, .*: memory: full, or fewer GiB; a smaller"):
        learn(network, with_room)


@pytest.mark.parametrize("breaks", ["never run", "by name", "own error"])
def test_layers_that_cant_be_measured_are_all_computed_again(breaks: str) -> None:
    network, said = make_network(1).train(), list[str]()
    layer = network.model.layers[0]
    plain = layer.forward

    def run(size: int) -> Any:
        if breaks == "own error":
            raise LookupError("no such thing\nat all")
        if breaks == "by name":
            return layer(hidden_states=torch.zeros(1, size, 32))
        return torch.zeros(())

    planner = open_planner(Memory("auto"), network, ALONE, run, said.append, most_tokens=64)
    assert planner.levels(make_row(30)) == (0, 0)
    problem = {
        "never run": "the first layer is never run",
        "by name": "the layers take no hidden states by position",
        "own error": "LookupError: no such thing",
    }[breaks]
    assert said == [
        f"memory: the layers can't be measured ({problem}); all of them are computed again, as with memory: full"
    ]
    assert layer.forward == plain


def test_a_layer_runs_by_what_wrapped_it_last_and_then_as_before() -> None:
    layer, seen = torch.nn.Linear(2, 2), list[str]()

    def way(name: str) -> Any:
        def run(forward: Any, *args: Any) -> Any:
            seen.append(name)
            return forward(*args)

        return run

    wrap(layer, way("one"))
    wrap(layer, way("two"))
    with wrapping(layer, way("three")):
        layer(torch.zeros(2))
    layer(torch.zeros(2))
    assert (seen, is_wrapped(layer), "forward" in vars(layer)) == (["three"], False, False)
    layer.forward = lambda hidden: hidden  # someone else's
    theirs = layer.forward
    wrap(layer, way("four"))
    assert torch.equal(layer(torch.ones(2)), torch.ones(2))
    unwrap(layer)
    assert layer.forward is theirs
    assert seen == ["three", "four"]


def test_full_and_none_ask_nothing_of_the_row() -> None:
    network = make_network(1).train()
    for word, level in (("none", 1), ("full", 0)):
        planner = open_planner(Memory(word), network, ALONE, run_on(network), print, most_tokens=64)  # type: ignore[arg-type]
        assert planner.levels(Row(samples=make_row(500).samples)) == (level, level)


def test_weights_are_counted_as_processes_share_them() -> None:
    network = make_network(1)
    outside = network.get_input_embeddings().weight.numel() + network.get_output_embeddings().weight.numel()
    outside += network.base_model.norm.weight.numel()
    layers = sum(one.numel() for one in network.base_model.layers.parameters())
    norms = sum(one.numel() for one in network.base_model.layers.parameters() if one.dim() == 1)

    def count(**sizes: int) -> float:
        return count_state(network, Parallel(**sizes), on_cpu=False)

    assert count() == 16 * (layers + outside)
    assert count(dp=2) == count() / 2
    assert count(pp=2) == 16 * (layers / 2 + outside / 2)
    assert count(tp=2) == 16 * ((layers - norms) / 2 + norms + outside)
    assert count(dp=4, replicate=2) == count() / 2
    network.config.tie_word_embeddings = True
    assert count(pp=2) == 16 * (layers / 2 + outside)


def test_ranks_that_share_a_layer_share_the_words_of_a_head_that_makes_losses() -> None:
    network = make_network(1)
    before = count_state(network, Parallel(tp=2), on_cpu=False)
    use_loss_head(network)
    words = network.get_input_embeddings().weight.numel() + network.get_output_embeddings().weight.numel()
    assert count_state(network, Parallel(tp=2), on_cpu=False) == before - 16 * words / 2
    head = make_costs(network, LayerCosts(), 64, Parallel(tp=2), CPU).head
    assert (head.weights, head.width, head.at_once) == (words // 4, 150, tokens_at_once(150))
    assert share_of_words(network, Parallel(tp=7)) == 1


def test_ranks_that_share_a_layer_keep_shares_of_the_sequence() -> None:
    layer = LayerCosts(whole=Bytes(token=100), entry=Bytes(token=8), work=Bytes(token=50))
    shared = layer.over(2)
    assert (shared.entry, shared.whole, shared.work) == (Bytes(token=4), Bytes(token=58), Bytes(token=50))
    assert layer.over(1) == layer


def test_layers_in_flight_are_those_of_the_schedule() -> None:
    network = make_network(1, num_hidden_layers=8)
    assert layers_in_flight(network, Parallel(pp=2)) == 8
    assert layers_in_flight(network, Parallel(pp=2, interleave=2)) == 10
    assert layers_in_flight(network, Parallel(pp=2, interleave=4)) == 9
    assert most_layers(network, Parallel(pp=2, interleave=2)) == 4


def test_parameters_on_the_cpu_are_on_a_device_two_layers_at_a_time() -> None:
    network = make_network(1)
    layer = sum(one.numel() for one in network.base_model.layers[0].parameters())
    outside = sum(one.numel() for one in network.parameters()) - 2 * layer
    costs = make_costs(network, LayerCosts(), 64, Parallel(dp=2), torch.device("cuda"), offload="parameters")
    assert costs.fixed == 4 * (3 * layer + outside)
    there = make_costs(network, LayerCosts(), 64, Parallel(dp=2), CPU, offload="parameters")
    assert there == make_costs(network, LayerCosts(), 64, Parallel(dp=2), CPU)
