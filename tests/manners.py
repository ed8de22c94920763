"""How models and endpoints send their tokens in tests: one by one, or as public endpoints do.

A test marked `manners` (or all of a module, by its `pytestmark`) runs twice: one by one, and in one of ODD, which its
name chooses. So half of these runs meet tokens in batches, tokens without text, and usage that says less than there
was. A test that computes its numbers from one counted token a delta is marked `one_by_one`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from zlib import crc32

from stairstream.backends.scripted import ONE_BY_ONE, Manner, Script, ScriptedBackend
from stairstream.backends.wrapping import WrappingBackend
from stairstream.server.fake.model import FakeModel

ODD: Mapping[str, Manner] = {
    "two at a time": Manner(batch=2),
    "five, counted at the end": Manner(batch=5, usage="at_end"),
    "drawn, rounded": Manner(batch=(1, 6), silent_every=7, usage="rounded"),
    "some without text": Manner(silent_every=3),
    "drawn, never counted": Manner(batch=(1, 4), silent_every=5, usage="none"),
}

_now = ONE_BY_ONE


def odd_one_for(name: str) -> str:
    """The manner that a test of this name runs in, besides one by one: the same in every process."""
    return sorted(ODD)[crc32(name.encode()) % len(ODD)]


@contextmanager
def using(manner: Manner) -> Iterator[None]:
    """Scripts that the test's helpers are given come in this manner."""
    global _now
    before, _now = _now, manner
    try:
        yield
    finally:
        _now = before


def in_manner(script: Script) -> Script:
    """The script in the manner of the test that runs; one that has a manner of its own keeps it."""
    return replace(script, manner=_now) if script.manner == ONE_BY_ONE else script


def adopt(backends: Iterable[object]) -> None:
    """Let those that are scripted, also inside others, send their tokens in the manner of the test that runs."""
    for backend in backends:
        while isinstance(backend, WrappingBackend):
            backend = backend._inner
        if isinstance(backend, ScriptedBackend):
            backend.script = in_manner(backend.script)


def models_in_manner(models: Iterable[FakeModel]) -> list[FakeModel]:
    """Fake models that send their tokens in the manner of the test that runs."""
    return [replace(model, script=in_manner(model.script)) for model in models]
