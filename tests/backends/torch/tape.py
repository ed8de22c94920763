"""A stand-in for graphs that a GPU captures, for machines that have none."""

import pytest

torch = pytest.importorskip("torch")

from typing import Any  # noqa: E402

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from stairstream.backends.torch.static import Step  # noqa: E402

DispatchMode: Any = TorchDispatchMode  # torch says nothing of its types


class Tape(DispatchMode):  # type: ignore[misc]
    """Stands in for captured graphs: a replay does the same operations again on the same memory, and nothing else."""

    def __init__(self) -> None:
        DispatchMode.__init__(self)
        self.num_records = 0
        self.num_replays = 0
        self._done: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a graph that is being captured can't be asked for a number")
        found = func(*args, **(kwargs or {}))
        self._done.append((func, args, kwargs or {}, found))
        return found

    def __call__(self, step: Step) -> Step:
        self.num_records += 1
        self._done = []
        with self:
            output = step()
        done, self._done = self._done, []

        def replay() -> Any:
            self.num_replays += 1
            with torch.inference_mode():
                for func, args, kwargs, found in done:
                    for old, new in zip(tree_leaves(found), tree_leaves(func(*args, **kwargs)), strict=True):
                        if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                            old.copy_(new)
            return output

        return replay
