"""How many threads an engine gets."""

import os
import subprocess
import sys
from pathlib import Path

from stairstream.backends.threads import choose_threads, with_little_spin


def make_machine(folder: Path, siblings: dict[int, str], quota: str) -> Path:
    for cpu, text in siblings.items():
        place = folder / f"devices/system/cpu/cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(text)
    (folder / "fs/cgroup").mkdir(parents=True)
    (folder / "fs/cgroup/cpu.max").write_text(quota)
    return folder


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, "max 100000")
    assert choose_threads(machine, usable={0, 1, 2, 3}) == 2


def test_a_container_s_quota_counts(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, {cpu: str(cpu) for cpu in range(8)}, "250000 100000")
    assert choose_threads(machine, usable=set(range(8))) == 2


def test_there_is_always_a_thread(tmp_path: Path) -> None:
    machine = make_machine(tmp_path, {0: "0"}, "50000 100000")
    assert choose_threads(machine, usable={0}) == 1


def test_openmp_threads_sleep_soon_unless_the_user_has_said_how_they_wait() -> None:
    assert with_little_spin({"HOME": "/"}) == {"HOME": "/", "GOMP_SPINCOUNT": "1000"}
    assert with_little_spin({"GOMP_SPINCOUNT": "7"}) == {"GOMP_SPINCOUNT": "7"}
    assert with_little_spin({"OMP_WAIT_POLICY": "active"}) == {"OMP_WAIT_POLICY": "active"}


def test_the_command_line_says_so_before_torch_can_be_imported() -> None:
    code = (
        "import os, sys; from stairstream.__main__ import main; sys.argv = ['stairstream', '--version']; main();"
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    environ = {name: value for name, value in os.environ.items() if name not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)
    assert done.stdout.splitlines()[-1] == "1000 False"
