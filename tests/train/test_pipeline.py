"""Stages of a network: together they are the whole one, under the same names."""

import copy
import importlib
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.data import EMPTY_ROW, Row  # noqa: E402
from stairstream.train.parallelize import layers_of  # noqa: E402
from stairstream.train.pipeline import keep_stages, make_even, run_stages, share_layers  # noqa: E402
from stairstream.train.processes import Processes  # noqa: E402
from stairstream.train.sequences import Sample, Teaching  # noqa: E402
from stairstream.train.step import nll_of  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.test_inserted import lay, make_trainable  # noqa: E402
from tests.train.tiny import CPU, make_row  # noqa: E402


def cut(network: Any, count: int) -> list[Any]:
    return [keep_stages(copy.deepcopy(network), [number], count)[0] for number in range(count)]


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_stages_compute_what_the_whole_network_does(count: int, is_tied: bool) -> None:
    compare_stages(make_network(1, num_hidden_layers=4, tie_word_embeddings=is_tied), count)


@pytest.mark.parametrize("kind", ["gemma", "gemma3_text", "mistral", "phi", "phi3", "qwen2", "qwen3", "smollm3"])
def test_networks_of_other_kinds_are_cut_too(kind: str) -> None:
    network = make_network(1, kind=kind, num_hidden_layers=3, head_dim=8)
    try:
        compare_stages(network, 2)
    except ConfigError as exc:
        assert transformers.__version__.startswith("5.0.") and kind in ("gemma", "phi")
        assert "needs a newer version of transformers" in str(exc)


@pytest.mark.parametrize("is_tied", [False, True])
def test_stages_of_two_ranks_in_turn_compute_what_the_whole_network_does(*, is_tied: bool) -> None:
    network = make_network(1, num_hidden_layers=5, tie_word_embeddings=is_tied)
    names = set(network.state_dict())
    ranks = [copy.deepcopy(network) for _ in range(2)]
    first, second = (keep_stages(one, range(number, 4, 2), 4) for number, one in enumerate(ranks))
    compare(network, [first[0], second[0], first[1], second[1]])
    assert set.union(*(set(one.state_dict()) for one in ranks)) == names
    assert [len(layers_of(one)) for one in ranks] == [2, 3]
    for rank, stages in zip(ranks, (first, second), strict=True):
        layers = [layer for stage in stages for layer in layers_of(stage)]
        assert all(one is other for one, other in zip(layers_of(rank), layers, strict=True))


def compare_stages(network: Any, count: int) -> None:
    compare(network, cut(network, count))


def compare(network: Any, stages: list[Any]) -> None:
    """What a row becomes in all stages, one after the other, and in the whole network."""
    ids, positions, kept, _ = make_row(5, 9).lay()
    asked = {"position_ids": torch.tensor([positions]), "use_cache": False, "return_dict": False}
    (expected,) = network(torch.tensor([ids]), **asked, logits_to_keep=torch.tensor([kept]))
    found = torch.tensor([ids])
    for stage in stages[:-1]:
        (found,) = stage(found, **asked, logits_to_keep=torch.tensor([kept]))
    (found,) = stages[-1](found, **asked, logits_to_keep=torch.tensor([kept]))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"),
    [
        (30, 4, [7, 8, 8, 7]),
        (7, 2, [4, 3]),
        (5, 3, [2, 2, 1]),
        (4, 3, [1, 2, 1]),
        (11, 4, [3, 3, 3, 2]),
        (6, 3, [2] * 3),
    ],
)
def test_layers_are_shared_as_evenly_as_can_be(layers: int, stages: int, sizes: list[int]) -> None:
    shares = share_layers(layers, stages)
    assert [len(one) for one in shares] == sizes
    assert [number for one in shares for number in one] == list(range(layers))


@pytest.mark.parametrize("is_tied", [False, True])
def test_stages_have_the_names_of_the_whole_network(is_tied: bool) -> None:
    network = make_network(1, num_hidden_layers=4, tie_word_embeddings=is_tied)
    stages = cut(network, 4)
    names = [set(stage.state_dict()) for stage in stages]
    assert set.union(*names) == set(network.state_dict())
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    assert [embedding in one for one in names] == [True, False, False, is_tied]
    assert [head in one for one in names] == [False, False, False, True]
    assert [len(layers_of(stage)) for stage in stages] == [1, 1, 1, 1]
    assert len(dict(stages[-1].named_parameters())) == len(names[-1]) - is_tied


def test_rows_are_made_even_by_what_is_neither_seen_nor_learned() -> None:
    rows = [make_row(9, 17), make_row(30), make_row(4)]
    even = make_even(rows)
    assert [row.num_tokens for row in even] == [30, 30, 30]
    assert even[1] is rows[1]
    network = make_network(1)
    for row, longer in zip(rows, even, strict=True):
        assert longer.num_trained == row.num_trained
        assert float(nll_of(network, longer, CPU).detach()) == pytest.approx(float(nll_of(network, row, CPU).detach()))


def test_rows_are_filled_up_to_a_share_for_each_rank() -> None:
    row = make_row(5, 9)
    assert row.make_divisible(1) is row and row.make_divisible(7) is row
    longer = row.make_divisible(4)
    assert (longer.num_tokens, longer.num_trained, longer.samples[:2]) == (16, row.num_trained, row.samples)
    assert longer.samples[2].teaching is None


def test_what_a_teacher_reads_is_filled_up_too() -> None:
    ids = (5, 6, 7, 8)
    sample = Sample(ids=ids, is_trained=(False, False, False, True), teaching=Teaching(ids=(*ids, 9), before=(2,)))
    longer = Row(samples=(sample,)).make_divisible(4)
    assert (longer.num_tokens, len(longer.lay_teachings()[0])) == (8, 8)
    assert longer.lay_teachings()[2] == [2]
    assert [len(one) for one in longer.lay()] == [8, 8, 1, 1]


@pytest.fixture
def only_stage() -> Iterator[Processes]:
    """A pipeline of one process."""
    dist: Any = importlib.import_module("torch.distributed")
    meshes: Any = importlib.import_module("torch.distributed.device_mesh")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Processes(device=CPU, mesh=meshes.init_device_mesh("cpu", (1, 1, 1), mesh_dim_names=("pp", "dp", "tp")))
    dist.destroy_process_group()


def test_rows_teach_in_a_pipeline_what_they_teach_alone(only_stage: Processes) -> None:
    network, other = make_trainable(), make_trainable()
    rows = make_even([make_row(30, 17), Row(samples=(lay(), *make_row(9).samples)), EMPTY_ROW])
    total: Any = sum(nll_of(other, row, CPU) for row in rows)
    (total / 2).backward()
    assert run_stages(network, rows, 0.5, only_stage, "float32") == pytest.approx(float(total.detach()))
    for one, expected in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, expected.grad)


def test_more_stages_than_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"parallel.pp: 3 stages are more than the model's 2 layers"):
        keep_stages(make_network(), [0], 3)


def test_a_network_that_does_more_between_its_layers_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"parallel.pp: Gemma2ForCausalLM can't be cut here; those that can are gemma"
    ):
        keep_stages(make_network(kind="gemma2", head_dim=8), [0], 2)
    capped = make_network(kind="gemma3_text", head_dim=8, final_logit_softcapping=30.0)
    with pytest.raises(ConfigError, match=r"Gemma3ForCausalLM with final_logit_softcapping can't be cut here"):
        keep_stages(capped, [0], 2)
