"""Train steps: what a batch teaches does not depend on how it is packed or accumulated."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typing import Any, Literal  # noqa: E402

from stairstream.train.config import Memory, Precision, Stage  # noqa: E402
from stairstream.train.data import EMPTY_ROW, Batch, Cursor, Row  # noqa: E402
from stairstream.train.memory import make_simple  # noqa: E402
from stairstream.train.step import Size, clip_gradients, make_optimizer, nll_of, rate_at, train_step  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.tiny import ALONE, CPU, make_row, state_of  # noqa: E402

STAGE = Stage(name="s", steps=10, warmup_steps=2)


def learn(
    *rows: Row, memory: Literal["none", "full"] = "none", precision: Precision = "float32"
) -> tuple[list[Any], dict[str, Any]]:
    """Two steps on one batch; what came of each, and the weights."""
    network = make_network(1).train()
    optimizer = make_optimizer(network, STAGE)
    batch, planner = Batch(rows=rows, after=Cursor()), make_simple(Memory(memory), 2)
    done = [
        train_step(network, optimizer, batch, ALONE, planner, precision=precision, clip=1.0, lr=1e-2) for _ in range(2)
    ]
    return done, state_of(network)


def test_samples_of_a_row_do_not_see_each_other() -> None:
    network = make_network(1)
    row = make_row(9, 1, 17, 30)
    packed = nll_of(network, row, CPU).detach()
    alone = sum(nll_of(network, Row(samples=(sample,)), CPU).detach() for sample in row.samples)
    assert float(packed) == pytest.approx(float(alone), rel=1e-5)


def test_only_what_is_learned_has_a_loss() -> None:
    network = make_network(1)
    (sample,) = make_row(12).samples
    ids = torch.tensor([sample.ids])
    every = network(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    expected = -every[torch.tensor(sample.is_trained[1:])].sum()
    assert float(nll_of(network, make_row(12), CPU).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize(("precision", "loss_rel", "norm_rel"), [("float32", 1e-5, 1e-4), ("bfloat16", 1e-2, 5e-2)])
def test_accumulation_is_one_large_batch(precision: Precision, loss_rel: float, norm_rel: float) -> None:
    row = make_row(20, 7, 33)
    apart = [Row(samples=(sample,)) for sample in row.samples]
    (together, weights), (parts, others) = learn(row, precision=precision), learn(*apart, precision=precision)
    assert [one.loss for one in parts] == pytest.approx([one.loss for one in together], rel=loss_rel)
    assert [one.grad_norm for one in parts] == pytest.approx([one.grad_norm for one in together], rel=norm_rel)
    if precision == "float32":
        for name in weights:
            torch.testing.assert_close(others[name], weights[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_empty_rows_change_nothing(precision: Precision) -> None:
    row = make_row(20, 7)
    (done, weights), (filled, others) = learn(row, precision=precision), learn(row, EMPTY_ROW, precision=precision)
    assert done == filled
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checkpointing_changes_no_bit(precision: Precision) -> None:
    row = make_row(20, 7)
    (done, weights), (again, others) = learn(row, precision=precision), learn(row, memory="full", precision=precision)
    assert done == again
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_the_fused_optimizer_learns_what_the_plain_one_does() -> None:
    fused, plain = make_network(1), make_network(1)
    one = make_optimizer(fused, STAGE)
    other = torch.optim.AdamW(
        [{**group, "params": list(mine)} for group, mine in zip(one.param_groups, _groups(plain), strict=True)],
        fused=False,
    )
    for group in other.param_groups:
        group["fused"] = False
    for _ in range(3):
        for network, optimizer in ((fused, one), (plain, other)):
            loss: Any = nll_of(network, make_row(20, 7), CPU)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert all(group["fused"] for group in one.param_groups)
    for mine, theirs in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def _groups(network: Any) -> list[list[Any]]:
    return [[one for one in network.parameters() if (one.dim() >= 2) == large] for large in (True, False)]


def test_gradients_are_clipped_by_their_common_norm() -> None:
    one, other = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
    one.grad, other.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_gradients([one, other], 10, ALONE) == 5
    assert clip_gradients([one, other], 1, ALONE) == 5
    assert one.grad is not None
    torch.testing.assert_close(one.grad, torch.tensor([0.6, 0.0]))


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    stage = Stage(name="s", steps=10, warmup_steps=2, final_lr=0.5)
    top = stage.lr
    assert rate_at(stage, 0, 0.0) == top / 2
    assert rate_at(stage, 1, 0.0) == top
    assert rate_at(stage, 5, 0.5) == pytest.approx(0.75 * top)
    assert rate_at(stage, 9, 1.0) == pytest.approx(0.5 * top)


def test_operations_are_counted_by_hand() -> None:
    size = Size.of(make_network(1))
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    assert size == Size(inner=2 * layer + 32, head=300 * 32, attention=2 * 32)
    row = make_row(3, 4)
    batch = Batch(rows=(row,), after=Cursor())
    assert size.count_flops(batch) == 6 * (size.inner * 7 + size.head * row.num_trained + 64 * (9 + 16))
