"""One measured run as a value, and files of them: JSON lines."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from stairstream.core.errors import ConfigError
from stairstream.core.events import Called, Event, RunEnded, RunStarted, StepStarted, Wrote
from stairstream.core.metrics import STALL_AFTER_S
from stairstream.eval.recorded import read_rows

SAMPLES_FILE = "samples.jsonl"


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """When one agent wrote (from, until), and when it read more, in seconds since its run began."""

    agent: str
    bursts_s: list[tuple[float, float]]
    updates_s: list[float]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Times are in seconds; `at_s` is when it began, since the measurement did. Unknown numbers are null."""

    system: str
    question: str
    repetition: int
    at_s: float
    first_token_s: float | None
    longest_gap_s: float
    stall_s: float
    total_s: float
    seen_share: float | None
    calls: int
    prompt_tokens: int
    cached_tokens: int | None
    completion_tokens: int
    cost: float | None
    ended: str | None
    degraded: list[str]
    error: str | None
    text: str
    lanes: list[Lane]

    @property
    def is_whole(self) -> bool:
        """Whether its times count: it was answered, by its end or its limit."""
        return self.ended in ("stop", "length") and self.first_token_s is not None


def lanes_of(events: Sequence[Event]) -> list[Lane]:
    """The lanes of a run, the answering agent's first; pauses that are not felt are no end of a burst."""
    started = next(event for event in events if isinstance(event, RunStarted))
    times: dict[str, list[float]] = {name: [] for name in started.agents}
    updates: dict[str, list[float]] = {name: [] for name in started.agents}
    for event in events:
        match event:
            case RunStarted() | RunEnded():
                pass
            case Wrote() | Called():
                times[event.agent].append(event.at_s)
            case StepStarted() if event.step:
                updates[event.agent].append(event.at_s)
            case _:
                pass
    order = [started.answer, *(name for name in started.agents if name != started.answer)]
    return [Lane(agent=name, bursts_s=_bursts_of(times[name]), updates_s=updates[name]) for name in order]


def _bursts_of(times_s: Sequence[float]) -> list[tuple[float, float]]:
    if not times_s:
        return []
    found, start_s = [], times_s[0]
    for earlier, later in pairwise(times_s):
        if later - earlier > STALL_AFTER_S:
            found.append((start_s, earlier))
            start_s = later
    return [*found, (start_s, times_s[-1])]


def write_samples(samples: Sequence[Sample], file: Path) -> None:
    """A line for each sample. Raises OSError if the file can't be written."""
    file.write_bytes(b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))


def read_samples(path: Path) -> list[Sample]:
    """The samples of a file, or of a folder that `bench` wrote. Raises ConfigError if it holds something else."""
    file = path / SAMPLES_FILE if path.is_dir() else path
    if not file.exists():
        raise ConfigError(f"there is no {file}; `stairstream bench --out {path}` writes it")
    return read_rows(file, Sample)
