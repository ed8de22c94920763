"""Layers that are compiled learn the same, and keep a share of what their compiler would keep."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.train.config import Memory  # noqa: E402
from stairstream.train.data import Row  # noqa: E402
from stairstream.train.memory import make_simple  # noqa: E402
from stairstream.train.memory.live import storages_of  # noqa: E402
from stairstream.train.step import nll_of  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.test_inserted import lay, make_trainable, many_steps  # noqa: E402
from tests.train.tiny import CPU, make_row, run_alone  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler warns of its own parts


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "more", [{}, {"layouts": {"rounds": 1, "insert": 1}, "distill": 0.5, "on_policy": 0.5, "lr": 1e-4}], ids=str
)
def test_a_run_of_compiled_layers_learns_what_others_learn(tmp_path: Path, more: dict[str, Any]) -> None:
    """Where answers are written, the rate is small: AdamW's first steps make much of what is only rounding."""
    write_data(tmp_path)
    stage = {"steps": 3, "epochs": None, **more}
    _, plain = run_alone(make_config(tmp_path, stage, output=str(tmp_path / "plain")))
    _, compiled = run_alone(make_config(tmp_path, stage, output=str(tmp_path / "compiled"), compile=True))
    assert [one.loss for one in compiled] == pytest.approx([one.loss for one in plain], rel=1e-4)


def count_kept(network: Any, row: Row) -> int:
    """Bytes that a pass keeps, weights apart."""
    weights = {storage.data_ptr() for storage in storages_of(list(network.parameters()))}
    found = dict[int, int]()

    def keep(tensor: Any) -> Any:
        for storage in storages_of(tensor):
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept: Any = nll_of(network, row, CPU)
    kept.backward()
    return sum(found.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("has_insertions", [False, True], ids=["plain", "insertions"])
def test_a_smaller_share_keeps_less(has_insertions: bool) -> None:
    network, kept = make_trainable() if has_insertions else make_network(1).train(), []
    row = Row(samples=(lay(steps=many_steps()),)) if has_insertions else make_row(32, 32)
    planner = make_simple(Memory("none"), 2, is_compiled=True)
    for layer in network.model.layers:
        # it divides the work as inductor does, and is quicker
        layer.compile(backend="aot_eager_decomp_partition", dynamic=True)
    for share in (4, 2, 0):
        planner._set(network, [planner.ladder[share]] * 2)
        kept.append(count_kept(network, row))
    assert kept == sorted(kept, reverse=True)
    assert kept[2] < kept[1] < kept[0]
    torch.compiler.reset()
