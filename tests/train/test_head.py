"""The loss without logits is the loss with them, and so are its gradients."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typing import Any  # noqa: E402

from torch.nn.functional import cross_entropy, kl_div, log_softmax  # noqa: E402
from transformers import AutoModelForCausalLM, Gemma2Config  # noqa: E402

from stairstream.train.config import Parallel  # noqa: E402
from stairstream.train.data import EMPTY_ROW  # noqa: E402
from stairstream.train.head import Goal, has_loss_head, linear_loss, tokens_at_once, use_loss_head  # noqa: E402
from stairstream.train.memory.costs import HeadCosts, LayerCosts  # noqa: E402
from stairstream.train.memory.live import LiveBytes  # noqa: E402
from stairstream.train.memory.planner import make_costs  # noqa: E402
from stairstream.train.step import nll_of  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.tiny import CPU, make_row  # noqa: E402

NUM, WIDE, HIDDEN = 37, 211, 24


def make_parts() -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    hidden, weight = torch.randn(NUM, HIDDEN), torch.randn(WIDE, HIDDEN)
    return hidden.requires_grad_(), weight.requires_grad_(), torch.randint(0, WIDE, (NUM,))


@pytest.mark.parametrize("at_once", [1, 16, 37, 100])
def test_loss_and_gradients_are_those_with_logits(at_once: int) -> None:
    """Compared in float64: in float32 logits have an error of their own, which is another one on each processor."""
    hidden, weight, targets = make_parts()
    exact = [one.detach().double().requires_grad_() for one in (hidden, weight)]
    whole = cross_entropy(exact[0] @ exact[1].T, targets, reduction="sum")
    expected = torch.autograd.grad(whole * 0.5, exact)
    loss = linear_loss(hidden, weight, Goal(targets_N=targets), at_once)
    found = torch.autograd.grad(loss * 0.5, (hidden, weight))
    assert float(loss.detach()) == pytest.approx(float(whole.detach()), rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))


@pytest.mark.parametrize("at_once", [7, 100])
def test_a_teacher_is_mixed_in_token_by_token(at_once: int) -> None:
    hidden, weight, targets = make_parts()
    teacher, hard = torch.randn(NUM, HIDDEN), torch.rand(NUM)
    nll = cross_entropy(hidden @ weight.T, targets, reduction="none")
    taught = log_softmax(teacher @ weight.detach().T, -1)
    distance = kl_div(log_softmax(hidden @ weight.T, -1), taught, reduction="none", log_target=True).sum(-1)
    whole = (hard * nll + (1 - hard) * distance).sum()
    expected = torch.autograd.grad(whole, (hidden, weight))
    goal = Goal(targets_N=targets, teacher_ND=teacher, hard_N=hard, soft_N=1 - hard)
    loss = linear_loss(hidden, weight, goal, at_once)
    found = torch.autograd.grad(loss, (hidden, weight))
    assert float(loss.detach()) == pytest.approx(float(whole.detach()), rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))


def test_a_frozen_weight_gets_no_gradient_and_no_room_for_one() -> None:
    hidden, weight, targets = make_parts()
    weight.requires_grad_(False)
    loss: Any = linear_loss(hidden, weight, Goal(targets_N=targets))
    loss.backward()
    assert hidden.grad is not None and weight.grad is None
    with torch.no_grad():
        assert not linear_loss(hidden, weight, Goal(targets_N=targets)).requires_grad


@pytest.mark.parametrize(("precision", "rel", "apart"), [("float32", 1e-6, 2e-6), ("bfloat16", 1e-2, 3e-2)])
def test_a_network_learns_the_same_by_either_head(precision: str, rel: float, apart: float) -> None:
    plain, other = make_network(1).train(), make_network(1).train()
    use_loss_head(other)
    assert has_loss_head(other) and not has_loss_head(plain)
    row = make_row(20, 7, 33)
    losses: list[Any] = []
    for network in (plain, other):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            losses.append(nll_of(network, row, CPU))
        losses[-1].backward()
    assert float(losses[1].detach()) == pytest.approx(float(losses[0].detach()), rel=rel)
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=0, atol=apart * float(one.grad.abs().max()))


def test_a_row_that_teaches_nothing_has_a_loss_of_zero() -> None:
    network = make_network(1)
    use_loss_head(network)
    loss: Any = nll_of(network, EMPTY_ROW, CPU)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(one.grad is None or not one.grad.any() for one in network.parameters())


def test_without_goals_it_is_the_head_as_it_was() -> None:
    network, ids = make_network(1), torch.tensor([[5, 6, 7]])
    before, names = network(ids).logits, list(network.state_dict())
    use_loss_head(network)
    assert torch.equal(network(ids).logits, before)
    assert list(network.state_dict()) == names


def test_a_network_that_changes_its_logits_keeps_them() -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 300, "head_dim": 8}
    more = {"num_attention_heads": 4, "num_key_value_heads": 2, "final_logit_softcapping": 3.0}
    config: Any = Gemma2Config
    untyped: Any = AutoModelForCausalLM
    network = untyped.from_config(config(**sizes, **more))
    use_loss_head(network)
    assert not has_loss_head(network)


def test_its_memory_is_an_eighth_and_is_foretold() -> None:
    count, wide, size = 2048, 16384, 16
    at_once = tokens_at_once(131072)  # so wide a head would be slow to test
    hidden, weight = torch.randn(count, size, requires_grad=True), torch.randn(wide, size, requires_grad=True)
    targets = torch.randint(0, wide, (count,))
    with LiveBytes() as whole:
        loss: Any = cross_entropy((hidden @ weight.T).float(), targets, reduction="sum")
        loss.backward()
    hidden.grad = weight.grad = None
    with LiveBytes() as some:
        loss = linear_loss(hidden, weight, Goal(targets_N=targets), at_once)
        loss.backward()
    foretold = HeadCosts(weights=weight.numel(), width=wide, at_once=at_once).pass_bytes(count)
    assert some.most <= whole.most / 4  # of eight times 256 tokens; see bench/train_head.py for 4,096
    assert 0.5 * foretold <= some.most <= foretold


def test_a_teacher_needs_no_more_than_is_foretold() -> None:
    count, wide, size = 1024, 65536, 16
    hidden, weight = torch.randn(count, size, requires_grad=True), torch.randn(wide, size, requires_grad=True)
    ones, targets = torch.ones(count), torch.randint(0, wide, (count,))
    goal = Goal(targets_N=targets, teacher_ND=torch.randn(count, size), hard_N=ones, soft_N=ones)
    with LiveBytes() as live:
        loss: Any = linear_loss(hidden, weight, goal)
        loss.backward()
    foretold = HeadCosts(weights=weight.numel(), width=wide, at_once=tokens_at_once(wide)).pass_bytes(count)
    assert live.most <= foretold


def test_planned_costs_follow_the_head() -> None:
    network = make_network(1)
    plain = make_costs(network, LayerCosts(), 64, Parallel(), CPU).head
    use_loss_head(network)
    folded = make_costs(network, LayerCosts(), 64, Parallel(), CPU).head
    assert (plain.at_once, folded.at_once) == (None, tokens_at_once(300))
