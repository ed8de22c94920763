"""Plans follow the memory that is there, from step to step, and no bit of what is learned does."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.train.config import Memory  # noqa: E402
from stairstream.train.data import split_prompts  # noqa: E402
from stairstream.train.memory import Planner  # noqa: E402
from stairstream.train.memory import planner as planner_module  # noqa: E402
from stairstream.train.memory.costs import Bytes, Costs, LayerCosts  # noqa: E402
from stairstream.train.meters import Metrics  # noqa: E402
from stairstream.train.run import train_from  # noqa: E402
from stairstream.train.stopping import StopRequest  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.tiny import ALONE, losses_of, make_row, make_start, report_to, state_of  # noqa: E402

MIB = 2**20
LAYER = LayerCosts(whole=Bytes(token=MIB), entry=Bytes(token=1), work=Bytes(token=MIB))
"""Of ten tokens: everything is 10 MiB, an input nearly nothing."""
ROWS = (make_row(4), make_row(10))


def make_planner(budget_mib: float) -> Planner:
    return Planner(Memory("auto"), Costs(num_layers=4, layer=LAYER), budget_mib * MIB)


def again(planner: Planner) -> int:
    return sum(level == 0 for level in planner.levels(ROWS[1]))


def test_less_memory_is_followed_at_once_and_more_where_it_is_worth_it() -> None:
    planner = make_planner(44)
    assert again(planner) == 0
    line = planner.follow(24 * MIB, ROWS)
    assert line == (
        "memory: 0.02 GiB are there now, not 0.04: of a row of 10 tokens 50% of the layers are computed again, not 0%"
    )
    assert again(planner) == 2
    assert planner.follow(26 * MIB, ROWS) is None and planner.budget == 24 * MIB
    assert planner.follow(34 * MIB, ROWS) is not None and again(planner) == 1
    assert planner.follow(36 * MIB, ROWS) is None


def test_memory_that_ran_out_is_not_trusted_again() -> None:
    planner = make_planner(44)
    assert planner.shrink(ROWS) and again(planner) == 1
    assert planner.follow(44 * MIB, ROWS) is None and again(planner) == 1
    assert planner.follow(80 * MIB, ROWS) is not None and again(planner) == 0


@pytest.mark.parametrize("wanted", ["gib", "none", "full"])
def test_only_what_is_there_is_followed(wanted: str) -> None:
    assert not Planner(Memory(wanted, 1), Costs(num_layers=4, layer=LAYER), MIB).follows  # type: ignore[arg-type]


def test_a_run_whose_memory_comes_and_goes_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(tmp_path)
    stage = {"steps": 6, "epochs": None, "sequence_tokens": 1024}
    config = make_config(tmp_path, stage, memory="auto")
    kept, trained, all_lines = list[list[float]](), list[dict[str, Any]](), list[list[str]]()
    start = make_start()
    state = planner_module.count_state(start.network, config.parallel, on_cpu=True)
    for shares in ([9.0] * 8, [9.0, 9.0, 9.0, 0.4, 0.4, 0.4, 9.0, 9.0]):
        found = iter([(state + share * MIB) / 0.9 for share in shares])
        monkeypatch.setattr(planner_module, "find_memory", lambda _, found=found: next(found))
        start, said, lines = make_start(), list[Metrics](), list[str]()
        folder = make_config(tmp_path, stage, memory="auto", output=str(tmp_path / f"out{len(kept)}"))
        train_from(start, folder, split_prompts(folder), ALONE, report_to(said, lines), StopRequest())
        kept.append(losses_of(said))
        trained.append(state_of(start.network))
        all_lines.append([line for line in lines if line.startswith("memory")])
    assert kept[0] == kept[1]
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])
    assert all_lines[0] == [] and len(all_lines[1]) == 2, all_lines
