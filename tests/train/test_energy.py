"""Energy: counted where the machine counts it, and said to be assumed where not."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stairstream.train.energy import EnergyMeter  # noqa: E402

CPU = torch.device("cpu")


def write_counter(root: Path, name: str, joules: float) -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (root / name / "max_energy_range_uj").write_text("100000000\n")


def test_packages_are_added_up_and_counters_may_begin_anew(tmp_path: Path) -> None:
    write_counter(tmp_path, "intel-rapl:0", 10)
    write_counter(tmp_path, "intel-rapl:1", 99)
    write_counter(tmp_path, "intel-rapl:0:0", 5)  # a part of the first, which has it already
    meter = EnergyMeter(CPU, 0, root=tmp_path)
    assert meter.source == "rapl"
    write_counter(tmp_path, "intel-rapl:0", 12.5)
    write_counter(tmp_path, "intel-rapl:1", 1)
    write_counter(tmp_path, "intel-rapl:0:0", 50)
    assert meter.look() == pytest.approx(2.5 + 2)
    assert meter.look() == 0


def test_without_counters_cpu_time_is_taken_at_an_assumed_wattage(tmp_path: Path) -> None:
    now = [1.0]
    meter = EnergyMeter(CPU, 0, root=tmp_path, cpu_s=lambda: now[0])
    assert meter.source == "assumed"
    now[0] = 3.5
    assert meter.look() == 25


def test_counters_that_may_not_be_read_are_as_none(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    assert EnergyMeter(CPU, 0, root=tmp_path).source == "assumed"
