"""Finds a rank that hangs: every rank beats in a store, and every rank looks at the beats of the others.

A collective that waits for a rank which is stopped, or gone without a word, would wait for as long as the process
group allows, and a rank that waits in one can't be told: its process is ended.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import torch.distributed as dist

from stairstream.train.failures import EXIT_AGAIN, HOW_TO_CONTINUE

_BEAT_S = 5.0
_PATIENCE_S = 45.0
"""Without a beat, or without a move: with the time between two looks it is less than a minute."""
_FIRST_MOVE_S = 600.0
"""Until a rank has moved twice: it may compile, and how long its train steps take is not known."""
_SLOWEST_MOVES = 3
"""A rank may take as many times as long as its slowest move so far."""


class Beat(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The signs of life of a rank: how often it beat and moved, and for how long it may stand still."""

    host: str
    beats: int
    moves: int
    may_stand_s: float


@dataclass(slots=True)
class _Seen:
    """The last beat of a rank, and when it last came and last told of a move."""

    beat: Beat
    beat_at: float
    move_at: float


class Moves:
    """The moves of this rank, and the time that it may stand still, as its main thread tells them."""

    def __init__(self, patience_s: float = _PATIENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._patience_s = patience_s
        self._clock = clock
        self._last: float | None = None
        self._slowest_s: float | None = None
        self._rests = False

    @property
    def may_stand_s(self) -> float:
        """Seconds without a move after which something is wrong."""
        if self._rests or self._slowest_s is None:
            return _FIRST_MOVE_S
        return max(self._patience_s, _SLOWEST_MOVES * self._slowest_s)

    def move(self) -> None:
        """One more train step is done."""
        now = self._clock()
        if self._last is not None:
            self._slowest_s = max(self._slowest_s or 0.0, now - self._last)
        self.count, self._last = self.count + 1, now

    @contextmanager
    def rest(self) -> Iterator[None]:
        """While something else is done than a train step: its duration is unknown."""
        self._rests = True
        try:
            yield
        finally:
            self._rests, self.count, self._last = False, self.count + 1, self._clock()


class Table:
    """When each rank last beat and last moved, by this rank's own clock; decides whether one hangs."""

    def __init__(self, ranks: Sequence[int], patience_s: float, clock: Callable[[], float]) -> None:
        self._ranks = ranks
        self._patience_s = patience_s
        self._clock = clock
        self._lock = threading.Lock()  # one thread reads, another decides
        self._start = self._read_at = self._looked_at = clock()
        self._seen: dict[int, _Seen] = {}

    def note(self, beats: Mapping[int, Beat]) -> None:
        """These were read just now."""
        with self._lock:
            now = self._read_at = self._clock()
            for rank, beat in beats.items():
                seen = self._seen.setdefault(rank, _Seen(beat, now, now))
                if beat.beats != seen.beat.beats:
                    seen.beat_at = now
                if beat.moves != seen.beat.moves:
                    seen.move_at = now
                seen.beat = beat

    def find_problem(self) -> str | None:
        """A line that says who hangs, or None."""
        with self._lock:
            now = self._clock()
            was_asleep = now - self._looked_at > self._patience_s / 2
            self._looked_at = now
            if was_asleep:  # this process itself was stopped, and perhaps all of them: look again from now on
                self._start = self._read_at = now
                for one in self._seen.values():
                    one.beat_at = one.move_at = now
            return self._find_silent(now) or self._find_still(now)

    def _find_silent(self, now: float) -> str | None:
        if now - self._read_at > self._patience_s:
            return f"the process that keeps the ranks' store has not answered for {now - self._read_at:.0f} s"
        for rank in self._ranks:
            seen = self._seen.get(rank)
            silent_s = now - (seen.beat_at if seen else self._start)
            if silent_s > self._patience_s:
                where = f" on {seen.beat.host}" if seen else ""
                return f"rank {rank}{where} has not answered for {silent_s:.0f} s: it hangs, or is gone"
        return None

    def _find_still(self, now: float) -> str | None:
        """One rank that stands still makes all others wait for it."""
        stood = {rank: now - one.move_at for rank, one in self._seen.items()}
        if not stood or any(stood[rank] <= one.beat.may_stand_s for rank, one in self._seen.items()):
            return None
        moves = {rank: one.beat.moves for rank, one in self._seen.items()}
        slow = [rank for rank in moves if moves[rank] < max(moves.values())]
        who = f"; rank {slow[0]} is slower than the others" if slow else ""
        return f"no rank has finished a train step for {min(stood.values()):.0f} s{who}"


@contextmanager
def watching(rank: int, world: int, moves: Moves, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Beat for this rank, and end this process with a line where a rank hangs. All ranks must come here."""
    library: Any = dist
    store = library.TCPStore(  # a connection of its own: others may wait in theirs
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=_FIRST_MOVE_S),
    )
    table = Table(range(world), patience_s, time.monotonic)
    ends = threading.Event()
    threads = [
        threading.Thread(target=_beat, args=(store, rank, world, moves, table, ends), name="beats", daemon=True),
        threading.Thread(target=_look, args=(rank, table, ends), name="watch", daemon=True),
    ]
    _say(store, rank, moves, 0)
    dist.barrier()
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ends.set()


def _say(store: Any, rank: int, moves: Moves, beats: int) -> None:
    beat = Beat(host=socket.gethostname(), beats=beats, moves=moves.count, may_stand_s=moves.may_stand_s)
    store.set(_key(rank), msgspec.json.encode(beat))


def _key(rank: int) -> str:
    return f"stairstream/beat/{rank}"


def _beat(store: Any, rank: int, world: int, moves: Moves, table: Table, ends: threading.Event) -> None:
    beats = 0
    while not ends.wait(_BEAT_S):
        beats += 1
        try:
            _say(store, rank, moves, beats)
            found = store.multi_get([_key(one) for one in range(world)])
        except (RuntimeError, OSError):  # who keeps the store is gone; `_look` sees that nothing comes any more
            return
        table.note({one: msgspec.json.decode(text, type=Beat) for one, text in enumerate(found)})


def _look(rank: int, table: Table, ends: threading.Event) -> None:
    while not ends.wait(_BEAT_S):
        if (problem := table.find_problem()) is not None:
            print(f"stairstream: error: rank {rank}: {problem}; {HOW_TO_CONTINUE}", file=sys.stderr, flush=True)
            os._exit(EXIT_AGAIN)
