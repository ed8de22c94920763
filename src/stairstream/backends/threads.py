"""Threads to compute with: their number when none is configured, and how long they look for work."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

_SPIN = "1000"
"""Rounds that an OpenMP thread looks for work before it sleeps. Its default, 300,000, is hardly faster on idle cores,
and takes 1.3 to 2 times as long where other processes keep them busy (docs/log.md)."""
_MOST = 16
"""Writing tokens is bound by memory: more threads than this rarely help, and each one waits for the slowest."""


def with_little_spin(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which OpenMP threads sleep soon; as it is where its user has said how they are to wait.

    OpenMP reads it once, when it is loaded: in this process before torch is imported.
    """
    if "OMP_WAIT_POLICY" in environ:
        return dict(environ)
    return {"GOMP_SPINCOUNT": _SPIN, **environ}


def choose_threads(system: Path = Path("/sys"), usable: set[int] | None = None) -> int:
    """One thread for each physical core that this process may use, at least 1; `usable` None asks the system."""
    cores = _count_cores(usable or _usable_cpus(), system / "devices/system/cpu")
    return max(1, min(cores, _quota(system / "fs/cgroup/cpu.max"), _MOST))


def _usable_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _count_cores(cpus: Iterable[int], folder: Path) -> int:
    """Two hardware threads of one core share its arithmetic units, so they count once."""
    found = set()
    for cpu in cpus:
        try:
            found.add((folder / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            found.add(str(cpu))
    return len(found)


def _quota(file: Path) -> int:
    """Whole cores' worth of time that a container may use."""
    try:
        allowed, _, period = file.read_text().partition(" ")
        return int(allowed) // int(period)
    except (OSError, ValueError):
        return _MOST
