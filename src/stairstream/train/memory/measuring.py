"""The cost of a layer's pass, from a few passes of one layer at three lengths."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from stairstream.train.memory.costs import Bytes, Key, LayerCosts, Numbering, Operation
from stairstream.train.memory.live import LiveBytes, storages_of
from stairstream.train.memory.wrapping import wrapping
from stairstream.train.parallelize import layers_of

Run = Callable[[int], Tensor]
"""Computes a row of this number of tokens as training does."""
_BREAKS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One layer's pass at one length; `results` are milliseconds and bytes of what was computed again."""

    whole: int
    entry: int
    work: int
    results: Mapping[Key, tuple[float, int]]


class CantMeasure(Exception):
    """A layer does not do what is needed to measure it."""


def measure_layer(network: Any, run: Run, most_tokens: int) -> LayerCosts:
    """The costs of a network's first layer, and so of all; operations are timed at the greatest length.

    Raises CantMeasure for layers that do anything else than those that are known here.
    """
    try:
        return _measure_layer(network, run, most_tokens)
    except _BREAKS as exc:  # code of others; nothing is lost if it breaks here
        raise CantMeasure(f"{type(exc).__name__}: {str(exc).partition(chr(10))[0]}") from exc


def _measure_layer(network: Any, run: Run, most_tokens: int) -> LayerCosts:
    lengths = (most_tokens // 4, most_tokens // 2, most_tokens)
    low, mid, high, again = (_see_layer(network, run, tokens) for tokens in (*lengths, most_tokens))

    def through(count: Callable[[_Seen], int]) -> Bytes:
        return Bytes.through(lengths, [count(one) for one in (low, mid, high)])

    operations = tuple(
        Operation(
            key=key,
            ms=min(high.results[key][0], again.results[key][0]),
            size=through(lambda seen, key=key: seen.results[key][1]),  # type: ignore[misc]
        )
        for key in low.results
        if all(key in seen.results for seen in (mid, high, again))
    )
    return LayerCosts(
        whole=through(lambda seen: seen.whole),
        entry=through(lambda seen: seen.entry),
        work=through(lambda seen: seen.work),
        operations=operations,
    )


def _see_layer(network: Any, run: Run, tokens: int) -> _Seen:
    """Nothing is kept of the other layers' passes, and no gradient is left anywhere."""
    found = list[_Seen]()
    layer = layers_of(network)[0]

    def look(function: Any, *args: Any) -> Any:
        with torch.enable_grad():
            found.append(_see(layer, function, args))
        return function(*args)

    with wrapping(layer, look), torch.no_grad():
        run(tokens)
    if not found:
        raise CantMeasure("the first layer is never run")
    return found[0]


def _see(layer: Any, function: Any, args: Sequence[Any]) -> _Seen:
    if not any(isinstance(one, Tensor) for one in args):
        raise CantMeasure("the layers take no hidden states by position")
    inside = [one.detach().requires_grad_(one.is_floating_point()) for one in args if isinstance(one, Tensor)]
    entry = sum(one.untyped_storage().nbytes() for one in inside)
    whole = entry + _count_kept(layer, function, inside)
    torch.clear_autocast_cache()  # in a train step, weights are cast again by the time a layer is computed again
    again, live = _Watch(inside[0].device), LiveBytes()
    with live:
        out = checkpoint(
            function, *inside, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), again)
        )
        out = out if isinstance(out, Tensor) else out[0]
        torch.clear_autocast_cache()
        torch.autograd.grad(out, inside[0], torch.ones_like(out))
    return _Seen(whole=whole, entry=entry, work=entry + live.most, results=again.results)


def _count_kept(layer: Any, function: Any, args: Sequence[Tensor]) -> int:
    """Bytes that a pass keeps apart from weights and what it was given."""
    given = {storage.data_ptr() for storage in storages_of((args, function.keywords))}
    given |= {storage.data_ptr() for storage in storages_of([*layer.parameters(), *layer.buffers()])}
    found = dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        for storage in storages_of(tensor):
            if storage.data_ptr() not in given:
                found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = function(*args)  # as long as it is there, no storage is used for something else
    del kept
    return sum(found.values())


class _Watch(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Notes milliseconds and new bytes of every operation."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.results = dict[Key, tuple[float, int]]()
        self._device = device
        self._clock = time.perf_counter if device.type == "cuda" else time.process_time  # others may need the CPU too
        self._numbering = Numbering()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = {storage.data_ptr() for storage in storages_of((args, kwargs))}
        self._wait()
        start = self._clock()
        out = func(*args, **(kwargs or {}))
        self._wait()
        took_ms = 1e3 * (self._clock() - start)
        new = {one.data_ptr(): one.nbytes() for one in storages_of(out) if one.data_ptr() not in given}
        key = self._numbering.key_of(func)
        before_ms, before = self.results.get(key, (0.0, 0))
        self.results[key] = before_ms + took_ms, before + sum(new.values())
        return out

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
