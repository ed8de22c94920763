"""A layer's forward pass in a wrapper of our own: nothing here depends on how a library checkpoints its layers.

The forward itself is wrapped, not the call: hooks of the module, such as those that collect sharded weights, stay
outside and run once, also where the layer is computed again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

Way = Callable[..., Any]
"""Runs a layer's forward pass: gets the forward, with its keyword arguments bound, and its positional arguments."""


class _Wrapped:
    """Stands for a layer's forward, which is `plain`; `own` is the layer's own attribute of that name, if any."""

    def __init__(self, plain: Callable[..., Any], own: Any, way: Way) -> None:
        self.plain = plain
        self.own = own
        self.way = way

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.way(partial(self.plain, **kwargs), *args)


def wrap(layer: Any, way: Way) -> None:
    """Let a layer's forward be run by `way`, in place of any other that ran it before."""
    unwrap(layer)
    layer.forward = _Wrapped(layer.forward, vars(layer).get("forward"), way)


def unwrap(layer: Any) -> None:
    """Let a layer run as if it had never been wrapped."""
    wrapped = vars(layer).get("forward")
    if not isinstance(wrapped, _Wrapped):
        return
    if wrapped.own is None:
        del layer.forward
    else:
        layer.forward = wrapped.own


def is_wrapped(layer: Any) -> bool:
    """Whether something of ours runs the layer's forward."""
    return isinstance(vars(layer).get("forward"), _Wrapped)


@contextmanager
def wrapping(layer: Any, way: Way) -> Iterator[None]:
    """Wrap a layer that is not wrapped, as long as the block lasts."""
    wrap(layer, way)
    try:
        yield
    finally:
        unwrap(layer)
