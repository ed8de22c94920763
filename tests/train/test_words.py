"""The vocabulary over several ranks: together they find what one finds."""

import importlib
import socket
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from torch import nn  # noqa: E402

from stairstream.train.head import Goal, linear_loss  # noqa: E402
from stairstream.train.memory.live import LiveBytes  # noqa: E402
from stairstream.train.words import SplitEmbedding, Words, own_part, share_words  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.tiny import join_group  # noqa: E402

NUM, WIDE, HIDDEN, WORLD = 37, 210, 24, 2
AT_ONCE = 16


def be_one(rank: int, world: int, folder: Path) -> None:
    """The main function of a process: keeps what it finds."""
    join_group(rank, world, folder)
    dist: Any = importlib.import_module("torch.distributed")
    meshes: Any = importlib.import_module("torch.distributed.device_mesh")
    dist.init_process_group("gloo")
    mesh = meshes.init_device_mesh("cpu", (world,), mesh_dim_names=("tp",))
    found = {str(is_taught): learn(mesh, is_taught=is_taught) for is_taught in (False, True)}
    torch.save(found | {"embedded": embed(mesh)}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def make_parts(*, is_taught: bool) -> tuple[Any, Any, Goal]:
    torch.manual_seed(0)
    hidden, weight = torch.randn(NUM, HIDDEN), torch.randn(WIDE, HIDDEN)
    targets = torch.randint(0, WIDE, (NUM,))
    if not is_taught:
        return hidden, weight, Goal(targets_N=targets)
    hard = torch.rand(NUM)
    return hidden, weight, Goal(targets_N=targets, teacher_ND=torch.randn(NUM, HIDDEN), hard_N=hard, soft_N=1 - hard)


def learn(mesh: Any, *, is_taught: bool) -> list[Any]:
    """Loss, gradients and the most bytes at a time by this rank's words, or by all without a mesh."""
    hidden, weight, goal = make_parts(is_taught=is_taught)
    words = Words()
    if mesh is not None:
        count = WIDE // mesh.size()
        words = Words(first=mesh.get_local_rank() * count, mesh=mesh)
        weight = weight[words.first : words.first + count]
    hidden, weight = hidden.requires_grad_(), weight.clone().requires_grad_()
    with LiveBytes() as live:
        loss = linear_loss(hidden, weight, goal, AT_ONCE, words)
        grads = torch.autograd.grad(loss * 0.5, (hidden, weight))
    return [loss.detach(), *grads, live.most]


def embed(mesh: Any) -> list[Any]:
    """What some words, one of which is padding, are embedded as, and the gradient of the tied weight."""
    network = make_network(1, tie_word_embeddings=True)
    names = list(network.state_dict())
    if mesh is not None:
        share_words(network, mesh)
        assert isinstance(network.model.embed_tokens, SplitEmbedding)
    assert list(network.state_dict()) == names
    assert network.lm_head.weight is network.model.embed_tokens.weight
    found = network.model.embed_tokens(torch.tensor([[0, 5, 149, 150, 299, 150]]))
    (found * torch.arange(6.0)[None, :, None]).sum().backward()
    return [found.detach(), own_part(network.lm_head.weight.grad)[0]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank found."""
    folder = tmp_path_factory.mktemp("words")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    spawn: Any = importlib.import_module("torch.multiprocessing").spawn
    spawn(be_one, args=(WORLD, folder), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("is_taught", [False, True])
def test_ranks_that_have_some_words_learn_what_one_with_all_learns(found: list[Any], *, is_taught: bool) -> None:
    loss, hidden, weight, most = learn(None, is_taught=is_taught)
    for rank, (part_loss, part_hidden, _, part_most) in enumerate(one[str(is_taught)] for one in found):
        assert part_most < 0.65 * most
        assert torch.equal(part_loss, found[0][str(is_taught)][0]), rank
        torch.testing.assert_close(part_loss, loss, rtol=1e-6, atol=0)
        torch.testing.assert_close(part_hidden, hidden, rtol=1e-6, atol=1e-6 * float(hidden.abs().max()))
    whole = torch.cat([one[str(is_taught)][2] for one in found])
    torch.testing.assert_close(whole, weight, rtol=1e-6, atol=1e-6 * float(weight.abs().max()))


def test_ranks_that_have_some_words_embed_all(found: list[Any]) -> None:
    embedded, weight = embed(None)
    for one in found:
        assert torch.equal(one["embedded"][0], embedded)
    assert torch.equal(torch.cat([one["embedded"][1] for one in found]), weight)


def test_an_embedding_that_scales_still_does() -> None:
    embed = make_network(kind="gemma3_text", head_dim=8).model.embed_tokens
    assert type(embed) is not nn.Embedding
    kind = type(embed)
    made = type(kind.__name__, (kind, SplitEmbedding), {})
    assert made.__mro__[1:3] == (kind, SplitEmbedding)
