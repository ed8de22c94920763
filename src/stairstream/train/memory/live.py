"""Counts the bytes of tensors alive at a time, on any device, as PyTorch's own dispatch tells it."""

import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """While it is entered: bytes of tensors that were made under it and are still there (`now`), and the `most`.

    What an operation uses inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.now = 0
        self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = {storage.data_ptr() for storage in storages_of((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in storages_of(out):
            pointer = storage.data_ptr()
            if pointer and pointer not in given and pointer not in self._known:
                self._known.add(pointer)
                self._add(storage.nbytes())
                weakref.finalize(storage, self._forget, pointer, storage.nbytes())
        return out

    def _add(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)

    def _forget(self, pointer: int, count: int) -> None:
        self._known.discard(pointer)
        self.now -= count


def storages_of(values: Any) -> Iterator[Any]:
    """The storages of all tensors among them, each as often as it is there."""
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor):
            local: Any = getattr(leaf, "_local_tensor", leaf)  # of a tensor that several processes share
            yield local.untyped_storage()
