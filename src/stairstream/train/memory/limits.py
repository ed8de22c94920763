"""The memory that this process may have (what the device has free, or what machine and control groups allow), and how
it is kept to that."""

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_ROOT = Path("/")


def find_memory(device: torch.device) -> float:
    """Bytes that this process may have in all, as far as can be known; ranks of one machine share its memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device))
    try:
        free_bytes, ours = find_free(_ROOT), find_own(_ROOT)
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    ranks = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or "1"
    return free_bytes / int(ranks) + ours  # weights are there already, and count as fixed


def find_own(root: Path) -> int:
    """Bytes of memory that this process has. Raises OSError where this is no Linux."""
    return int((root / "proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def give_back(device: torch.device, budget: float) -> None:
    """Hand free memory back to the system, where a process on a CPU has more than its budget of bytes.

    C's allocator keeps what is freed; after rows of many lengths it may keep several times what a step needs, in gaps
    that no tensor fits. To take it again costs time: so only then. Other allocators than glibc's are left alone.
    """
    if device.type != "cpu":
        return
    try:
        is_over = find_own(_ROOT) > budget
    except OSError:
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if is_over else None
    if trim is not None:
        trim(0)


def find_free(root: Path) -> float:
    """Bytes that are free for new memory: the least that the machine and each control group above us allow.

    Raises OSError where this is no Linux.
    """
    lines = (root / "proc/meminfo").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    machine = float(values["MemAvailable"].split()[0]) * 1024
    return max(0.0, min([machine, *_find_rooms(root)]))


@dataclass(frozen=True, slots=True)
class _Files:
    """The names that a version of control groups gives its files."""

    limits: tuple[str, ...]
    usage: str
    cache: str
    """Files in memory that are given back when memory is short, in memory.stat."""


_V1 = _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files(("memory.max", "memory.high"), "memory.current", "inactive_file")


def _find_rooms(root: Path) -> Iterator[float]:
    """The memory left in each group that has a limit; in a container, groups outside of it can't be seen."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (root / "sys/fs/cgroup/memory", _V1) if controllers else (root / "sys/fs/cgroup", _V2)
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                yield from _find_room(folder, files)


def _find_room(folder: Path, files: _Files) -> Iterator[float]:
    limits = [int(text) for name in files.limits if (text := _read(folder / name).strip()).isdigit()]
    usage = _read(folder / files.usage).strip()
    if limits and usage.isdigit():
        stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines())
        yield min(limits) - max(0, int(usage) - int(stat.get(files.cache, "0")))


def _read(file: Path) -> str:
    """Its text; what is not there, or not for us, says nothing."""
    try:
        return file.read_text()
    except OSError:
        return ""
