"""Memory is what machine and control groups allow, whichever is less; what is free is given back where it is short."""

import ctypes
import math
import platform
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stairstream.train.memory.limits import find_free, find_own, give_back  # noqa: E402

GIB = 2**30


def make_root(folder: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A machine with 8 GiB available, and these files below /sys/fs/cgroup."""
    for name, text in {
        "proc/meminfo": f"MemTotal: {16 * 2**20} kB\nMemAvailable:    {8 * 2**20} kB\n",
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def v2(limit: str, used: int, cache: int = 0, high: str = "max") -> dict[str, str]:
    stat = f"anon 5\ninactive_file {cache}\n"
    return {"memory.max": f"{limit}\n", "memory.high": f"{high}\n", "memory.current": f"{used}\n", "memory.stat": stat}


def at(path: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{path}/{name}".lstrip("/"): text for name, text in files.items()}


def test_without_groups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert find_free(make_root(tmp_path, "", {})) == 8 * GIB


@pytest.mark.parametrize("path", ["/", "/a/job"])
def test_v2_is_the_limit_of_the_group_less_what_is_used(tmp_path: Path, path: str) -> None:
    files = at(path, v2(str(4 * GIB), 3 * GIB, cache=2 * GIB))
    assert find_free(make_root(tmp_path, f"0::{path}\n", files)) == 3 * GIB


def test_v2_looks_at_the_groups_above_and_at_high(tmp_path: Path) -> None:
    above = at("a", v2(str(6 * GIB), 4 * GIB)) | at("a/job", v2("max", GIB))
    assert find_free(make_root(tmp_path / "one", "0::/a/job\n", above)) == 2 * GIB
    soft = at("job", v2("max", GIB, high=str(2 * GIB)))
    assert find_free(make_root(tmp_path / "two", "0::/job\n", soft)) == GIB


def test_a_limit_above_what_the_machine_has_changes_nothing(tmp_path: Path) -> None:
    assert find_free(make_root(tmp_path, "0::/\n", v2(str(99 * GIB), GIB))) == 8 * GIB


def test_nothing_is_free_where_more_is_used_than_allowed(tmp_path: Path) -> None:
    assert find_free(make_root(tmp_path, "0::/\n", v2(str(GIB), 2 * GIB))) == 0


@pytest.mark.parametrize("where", ["memory/docker/1", "memory"], ids=["host's path", "container's own"])
def test_v1_has_its_own_names(tmp_path: Path, where: str) -> None:
    files = {
        "memory.limit_in_bytes": f"{2 * GIB}\n",
        "memory.usage_in_bytes": f"{GIB}\n",
        "memory.stat": f"cache 9\ntotal_inactive_file {GIB // 2}\n",
    }
    cgroup = "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n"
    assert find_free(make_root(tmp_path, cgroup, at(where, files))) == 1.5 * GIB


def test_v1_without_a_limit_has_a_number_that_is_too_large_to_matter(tmp_path: Path) -> None:
    files = {"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": f"{GIB}\n"}
    assert find_free(make_root(tmp_path, "4:memory:/\n", at("memory", files))) == 8 * GIB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to give memory back")
def test_what_the_allocator_holds_is_given_back_where_the_process_has_more_than_its_budget() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    held = [libc.malloc(100_000) for _ in range(1_000)]  # each smaller than what is mapped on its own
    for address in held:
        ctypes.memset(address, 1, 100_000)
    for address in held[:-1]:  # the last one keeps the others' memory from being given back by itself
        libc.free(address)
    cpu, had = torch.device("cpu"), find_own(Path("/"))
    for device, budget in ((cpu, math.inf), (cpu, 2.0 * had), (torch.device("cuda"), 0.5 * had)):
        give_back(device, budget)
    assert find_own(Path("/")) > had - 10_000_000
    give_back(cpu, 0.5 * had)
    assert find_own(Path("/")) < had - 80_000_000
    libc.free(held[-1])
