"""Attention of many passes at once: as its compiler sees it, and as it is computed."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402

from stairstream.train.compiling import compile_layers  # noqa: E402
from stairstream.train.data import Row  # noqa: E402
from stairstream.train.ragged import attend_passes  # noqa: E402
from stairstream.train.step import nll_of  # noqa: E402
from tests.train.test_inserted import lay, make_trainable, many_steps  # noqa: E402
from tests.train.test_samples import STEPS  # noqa: E402
from tests.train.tiny import CPU, make_row  # noqa: E402

SIZES = ((3, 5), (1, 9), (4, 2))
"""Queries and keys of each pass."""


def make_inputs(sizes: tuple[tuple[int, int], ...] = SIZES) -> tuple[Any, ...]:
    """Two heads of queries for one of keys; every query sees its pass's first key at least."""
    dice = torch.Generator().manual_seed(0)
    num_tokens, num_keys = map(sum, zip(*sizes, strict=True))
    queries = torch.randn((1, 2, num_tokens, 4), generator=dice, requires_grad=True)
    keys, values = (torch.randn((1, 1, num_keys, 4), generator=dice, requires_grad=True) for _ in range(2))
    masks = [torch.rand(size, generator=dice) < 0.5 for size in sizes]
    for mask in masks:
        mask[:, 0] = True
    return queries, keys, values, torch.cat([mask.flatten() for mask in masks]), torch.tensor(sizes), 0.5


def test_each_pass_sees_keys_of_its_own() -> None:
    queries, keys, values, masks, sizes, scale = make_inputs()
    found = attend_passes(queries, keys, values, masks, sizes, scale)
    token = key = seen = 0
    for num_tokens, num_keys in SIZES:
        mine = slice(key, key + num_keys)
        mask = masks[seen : seen + num_tokens * num_keys].view(num_tokens, num_keys)
        scores = queries[:, :, token : token + num_tokens] @ keys[:, :, mine].mT * scale
        likely = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        torch.testing.assert_close(found[:, :, token : token + num_tokens], likely @ values[:, :, mine])
        token, key, seen = token + num_tokens, key + num_keys, seen + num_tokens * num_keys


def test_it_is_an_operation_as_pytorch_wants_one() -> None:
    torch.library.opcheck(torch.ops.stairstream.attend_passes.default, make_inputs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_operation_has_the_gradients_of_what_it_does(dtype: Any) -> None:
    queries, keys, values, *more = make_inputs()
    inputs = [one.detach().to(dtype).requires_grad_() for one in (queries, keys, values)]
    plain = attend_passes(*inputs, *more)
    one = torch.ops.stairstream.attend_passes(*inputs, *more)
    assert torch.equal(one, plain)
    push = torch.randn_like(plain)
    for found, wanted in zip(
        torch.autograd.grad(one, inputs, push), torch.autograd.grad(plain, inputs, push), strict=True
    ):
        assert torch.equal(found, wanted)


@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own parts
def test_a_layer_that_is_compiled_for_one_row_does_for_rows_of_other_passes() -> None:
    (plain,) = make_row(20).samples
    late = (replace(STEPS[2], start=0), *STEPS[3:])
    rows = [[lay()], [lay(steps=late), plain], [lay(steps=many_steps())], [plain, lay(), lay()], [plain, lay()]]
    network, counter, found = make_trainable(), CompileCounterWithBackend("aot_eager"), list[Any]()
    for is_compiled in (False, True):
        if is_compiled:
            compile_layers(network.model.layers, CPU, counter)  # traced and divided as by inductor, and not compiled
        for row in rows:
            network.zero_grad()
            loss: Any = nll_of(network, Row(samples=tuple(row)), CPU)
            loss.backward()
            found.append([loss.detach(), *(one.grad.clone() for one in network.parameters())])
    torch.compiler.reset()
    assert counter.frame_count == 1
    for wanted, got in zip(found[: len(rows)], found[len(rows) :], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
