"""The one loop of a model, in the one thread that computes: all sessions on the model are one batch.

Each turn of the loop is one forward pass: the next token of every session that writes, and up to a piece of what others
have to prefill. Stops take effect between two passes.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Literal

import torch

from stairstream.backends.in_process.pieces import Piece, count_shared, join
from stairstream.backends.torch.attention import Batch
from stairstream.backends.torch.cache import Cache, Claim
from stairstream.backends.torch.model import Model
from stairstream.backends.torch.track import Track

MOST_PIECE_TOKENS = 128
LEAST_PIECE_TOKENS = 32
PASS_S = 0.08
"""The longest that a pass should take, so that a stop takes effect within 100 ms and no answer pauses for longer."""
_WORTH_SHARING_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A job is over: why, how long its prompt was, and how much of that was computed, not kept."""

    reason: Literal["stop", "limit", "stopped", "failed"]
    prompt_tokens: int
    computed_tokens: int
    error: str = ""


@dataclass(slots=True, eq=False)
class Job:
    """Bring a track's context to `pieces`, then write up to `limit` tokens; 0 only computes the context.

    `tell` is called from the worker's thread: with each token, at last with a Done.
    """

    track: Track
    pieces: Sequence[Piece]
    limit: int
    tell: Callable[[int | Done], object]
    is_stopped: bool = False
    num_written: int = 0
    is_held: bool = False  # its model would end, but has not seen all yet
    num_missing: int = 0
    ids: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = join(self.pieces)


class Worker:
    """Runs jobs until it is closed; jobs of one track run one after the other."""

    def __init__(
        self,
        model: Model,
        end_ids: frozenset[int],
        *,
        threads: int | None = None,
    ) -> None:
        self._model = model
        self._threads = threads
        self._end_ids = end_ids
        self._inbox: SimpleQueue[Job | Track | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=f"torch-{model.name}", daemon=True)
        # what follows belongs to the worker's thread
        self._piece_tokens = LEAST_PIECE_TOKENS  # until passes were measured
        self._waiting: list[Job] = []
        self._active: list[Job] = []
        self._tracks: list[Track] = []
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let a job run."""
        self._inbox.put(job)
        if not self._thread.is_alive():
            self._fail_all()

    def forget(self, track: Track) -> None:
        """Let go of a track's cache, and stop its jobs."""
        self._inbox.put(track)

    def close(self) -> None:
        """Stop all jobs; waits for the pass in flight."""
        self._inbox.put(None)
        self._thread.join()

    def _loop(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)  # of this thread, which alone computes
        try:
            self._run()
        finally:
            self._fail_all()

    def _run(self) -> None:
        is_closed = False
        while not is_closed:
            is_closed = self._take_in()
            for job in [job for job in (*self._waiting, *self._active) if job.is_stopped or is_closed]:
                self._end(job, "stopped")
            self._admit()
            if self._active:
                self._step()

    def _fail_all(self) -> None:
        """Fail all jobs, so that no caller waits for a worker that has ended."""
        while not self._inbox.empty():
            if isinstance(job := self._inbox.get(), Job):
                self._waiting.append(job)
        for job in (*self._waiting, *self._active):
            self._end(job, "failed", "the model was closed")

    def _take_in(self) -> bool:
        """The messages since the last pass; with nothing to do, waits for it. True: to be closed."""
        while not self._inbox.empty() or not (self._active or self._waiting):
            match self._inbox.get():
                case None:
                    return True
                case Job() as job:
                    self._waiting.append(job)
                case Track() as track:
                    for job in (*self._waiting, *self._active):
                        job.is_stopped = job.is_stopped or job.track is track
                    self._tracks = [one for one in self._tracks if one is not track]
                    track.drop()
        return False

    def _admit(self) -> None:
        """Begin the jobs that wait, but for those whose prompt another is just computing."""
        for job in list(self._waiting):
            track = job.track
            if any(other.track is track for other in self._active):
                continue
            if track.cache is None:
                if self._is_being_computed(job):
                    continue
                track.cache = self._copy_shared(job)
                self._tracks.append(track)
            self._waiting.remove(job)
            self._active.append(job)
            self._arrange(job, track.cache)

    def _is_being_computed(self, job: Job) -> bool:
        """Whether a job in flight will soon have more of this prompt than there is now."""
        for other in self._active:
            cache = other.track.cache
            if cache is not None and cache.is_adapted == job.track.is_adapted and cache.num_missing > 1:
                shared = count_shared(cache.ids, job.ids[:-1])
                if shared >= cache.num_exact + _WORTH_SHARING_TOKENS:
                    return True
        return False

    def _copy_shared(self, job: Job) -> Cache:
        """A cache that begins with what some other track already has of this prompt."""
        most, source = _WORTH_SHARING_TOKENS - 1, None
        for track in self._tracks:
            if track.cache is not None and track.is_adapted == job.track.is_adapted:
                shared = count_shared(track.cache.ids[: track.cache.num_exact], job.ids[:-1])
                if shared > most:
                    most, source = shared, track.cache
        return source.fork(most) if source else self._model.new_cache(is_adapted=job.track.is_adapted)

    def _arrange(self, job: Job, cache: Cache) -> None:
        job.num_missing = job.track.arrange(cache, job.pieces, writes=job.limit > 0, most_tokens=self._piece_tokens)
        if not job.num_missing:
            self._end(job, "limit")

    def _step(self) -> None:
        """One forward pass, and the tokens that come of it."""
        claimed = self._claim()
        ends = [number for number, (job, claim) in enumerate(claimed) if job.limit and _completes(claim, job.track)]
        start = time.monotonic()
        try:
            logits = self._model.run(Batch([claim for _, claim in claimed]), ends)
        except RuntimeError as exc:  # out of memory, most of all
            for job in dict.fromkeys(job for job, _ in claimed):
                job.track.drop()
                self._end(job, "failed", str(exc).partition("\n")[0])
            return
        self._adapt(sum(len(claim.ids) for _, claim in claimed), time.monotonic() - start)
        for number, logits_V in zip(ends, logits, strict=True):
            job = claimed[number][0]
            self._take(job, job.track.sampler.choose(logits_V))
        for job in list(self._active):
            if not job.limit and job.track.cache is not None and not job.track.cache.num_missing:
                self._end(job, "limit")
            elif job.track.reveal():
                job.is_held = False

    def _adapt(self, num_tokens: int, took_s: float) -> None:
        """Make pieces as large as a pass of `PASS_S` allows."""
        if num_tokens >= self._piece_tokens:
            if took_s > PASS_S:
                self._piece_tokens = max(LEAST_PIECE_TOKENS, self._piece_tokens // 2)
            elif took_s < PASS_S / 3:
                self._piece_tokens = min(MOST_PIECE_TOKENS, self._piece_tokens * 2)

    def _claim(self) -> list[tuple[Job, Claim]]:
        """One token for each job that writes; the others share a piece, so that the shortest is soon done."""
        writing: list[tuple[Job, Cache]] = []
        reading: list[tuple[Job, Cache]] = []
        for job in self._active:
            cache, ahead = job.track.cache, job.track.ahead
            if ahead is not None:
                reading.append((job, ahead))
            if cache is not None and not job.is_held:
                (writing if cache.num_missing == 1 else reading).append((job, cache))
        found = [(job, cache.claim(1)) for job, cache in writing]
        reading.sort(key=lambda one: one[1].num_missing)
        room = self._piece_tokens
        for number, (job, cache) in enumerate(reading):
            size = min(cache.num_missing, max(1, room // (len(reading) - number)))
            found.append((job, cache.claim(size)))
            room -= size
        return found

    def _take(self, job: Job, token: int) -> None:
        """A job's next token: the end of its text, or one more."""
        if token in self._end_ids:
            if job.track.ahead is None:
                self._end(job, "stop")
            job.is_held = True
            return
        assert job.track.cache is not None
        job.track.cache.append(token)
        job.num_written += 1
        self._tell(job, token)
        if job.num_written >= job.limit:
            self._end(job, "limit")

    def _end(self, job: Job, reason: Literal["stop", "limit", "stopped", "failed"], error: str = "") -> None:
        (self._active if job in self._active else self._waiting).remove(job)
        computed = job.num_missing
        for cache in (job.track.ahead, None if job.num_written else job.track.cache):
            if cache is not None and computed:
                computed -= cache.num_missing
        self._tell(job, Done(reason=reason, prompt_tokens=len(job.ids), computed_tokens=computed, error=error))

    def _tell(self, job: Job, news: "int | Done") -> None:
        try:
            job.tell(news)
        except RuntimeError:  # its event loop is closed: nothing waits for it any more
            job.is_stopped = True


def _completes(claim: Claim, track: Track) -> bool:
    """Whether a word can follow what is claimed."""
    return claim.cache is track.cache and claim.cache.num_missing == len(claim.ids)
