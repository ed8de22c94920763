"""One agent's view of its upstream: how far each log is, how much of it has been read, and when to look again."""

import math
from collections.abc import Callable, Sequence

from stairstream.core.decisions import Upstream, Wait, wakes_at
from stairstream.core.events import Reading
from stairstream.core.outlook import Speech
from stairstream.core.session import Chunk
from stairstream.engine.log import Log


class Reader:
    """Reads several logs in step."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = tuple(logs)
        self._sources = tuple(log if log.source is None else log.source for log in logs)
        self._positions = [0] * len(logs)
        self._shown = [0] * len(logs)
        self._offsets = [0] * len(logs)
        self._held: list[tuple[int, bool]] | None = None
        self._is_unseen = False
        self._upstream = [Upstream(0, 0, has_ended=False, end_is_read=False) for _ in logs]
        self._armed = [0.0] * len(logs)
        self._wakes: tuple[Callable[[], None], ...] = ()
        self._stirs: tuple[Callable[[], None], ...] = ()

    @property
    def num_logs(self) -> int:
        """Upstream agents in all."""
        return len(self._logs)

    def progress(self) -> Sequence[Upstream]:
        """Each upstream agent's progress, in the order in which they are read; true until the next call."""
        for log, source, one in zip(self._logs, self._sources, self._upstream, strict=True):
            one.num_written = log.num_tokens
            one.has_ended = log.is_closed
            one.is_thinking = log.is_thinking
            one.silent_since = source.heard_s
        return self._upstream

    def is_thinking(self, index: int) -> bool:
        """Whether an upstream agent has only had thoughts so far."""
        return self._logs[index].is_thinking

    def listen(self, wakes: Sequence[Callable[[], None]], stirs: Sequence[Callable[[], None]]) -> None:
        """Have one of `wakes` called for each log that is as far as `arm` says, or ends, and one of `stirs` when its
        agent begins a call or to think.

        They are kept until `disarm` only: a reader that held its agent would, with all of the run, be left to the
        garbage collector.
        """
        self._wakes, self._stirs = tuple(wakes), tuple(stirs)
        for log, stir in zip(self._logs, self._stirs, strict=True):
            log.listen(stir)

    def arm(self, wait: Wait) -> None:
        """Watch each log until its progress may change the decision to wait, which was just taken."""
        armed, left = self._armed, wait.left
        for i, one in enumerate(self._upstream):
            if not one.has_ended:
                at_tokens = wakes_at(one, wait, i in left)
                if at_tokens != armed[i]:
                    armed[i] = at_tokens
                    self._logs[i].watch(at_tokens, self._wakes[i])

    def disarm(self) -> None:
        """Have nothing called any more."""
        for log, wake, stir in zip(self._logs, self._wakes, self._stirs, strict=False):
            log.unwatch(wake)
            log.unlisten(stir)
        self._wakes, self._stirs = (), ()
        self._armed = [0.0] * len(self._logs)

    def speeches(self) -> list[Speech | None]:
        """When each upstream agent began to speak and last did."""
        return [log.speech() for log in self._logs]

    @property
    def num_read(self) -> int:
        """Tokens that have been read."""
        return sum(one.num_read for one in self._upstream)

    @property
    def num_unread(self) -> int:
        """Tokens that are there and have not been read."""
        return sum(log.num_tokens - one.num_read for log, one in zip(self._logs, self._upstream, strict=True))

    def exceeds(self, most_tokens: float) -> bool:
        """Whether more is unread than that."""
        return most_tokens != math.inf and self.num_unread > most_tokens

    def peek(self) -> list[Chunk]:
        """Everything that is unread, and stays so."""
        chunks = []
        for i, log in enumerate(self._logs):
            if log.position > self._positions[i] or (log.is_closed and not self._upstream[i].end_is_read):
                chunks.append(log.chunk(self._positions[i], log.position, is_final=log.is_closed))
        return chunks

    def hold(self) -> list[Chunk]:
        """The unread text as chunks, which the next `take` will bring whatever is written until then."""
        self._held = [(log.position, log.is_closed) for log in self._logs]
        return self.peek()

    def release(self) -> None:
        """The next `take` brings what is there by then."""
        self._held = None

    def restore(self, readings: Sequence[Reading], *, is_rewound: bool) -> None:
        """A new session continues where these had been read; with `is_rewound` it reads them again, as after `rewind`.

        If not, nothing of them is news to its agent; yet the next `take` brings them, as the session has not seen them.
        """
        for i, (log, one, reading) in enumerate(zip(self._logs, self._upstream, readings, strict=True)):
            self._offsets[i] = reading.end
            self._shown[i] = log.position_of(reading.end)
            if not is_rewound:
                one.num_read, one.end_is_read = log.size_of(self._shown[i])[1], reading.is_final
        self._is_unseen = bool(readings) and not is_rewound

    def rewind(self) -> None:
        """Read everything again, and no less than before: another session takes over."""
        self._held = None
        self._is_unseen = False
        self._shown = [max(pair) for pair in zip(self._shown, self._positions, strict=True)]
        self._positions = [0] * len(self._logs)
        for one in self._upstream:
            one.num_read, one.end_is_read = 0, False

    def take(self, most_tokens: float = float("inf")) -> tuple[list[Chunk], tuple[Reading, ...]]:
        """Everything that is unread, or was when it was held, as chunks; and what each reference looks like now.

        Where that is more than `most_tokens`, each log gives the beginning of it, within its equal share; but all that
        a session before this one was shown.
        """
        cut = self._cut(most_tokens) if self.exceeds(most_tokens) else None
        held, self._held = self._held, None
        if self._is_unseen:  # an end without a word, too, is new to the session
            self._is_unseen = False
            for one in self._upstream:
                one.end_is_read = False
        chunks, readings = [], []
        for i, (log, one) in enumerate(zip(self._logs, self._upstream, strict=True)):
            end, is_closed = held[i] if held else (log.position, log.is_closed)
            if cut:
                end = cut[i]
            is_final = is_closed and end == log.position
            if end > self._positions[i] or (is_final and not one.end_is_read):
                chunks.append(log.chunk(self._positions[i], end, is_final=is_final))
            length, one.num_read = log.size_of(end)
            readings.append(log.reading(self._offsets[i], length, is_final=is_final))
            self._positions[i], self._offsets[i], one.end_is_read = end, length, is_final
        return chunks, tuple(readings)

    def take_again(self) -> tuple[list[Chunk], tuple[Reading, ...]]:
        """The text that had been read before, for a session that has not seen it; nothing for any other."""
        if not self._is_unseen:
            return [], ()
        self._held = [(at, one.end_is_read) for at, one in zip(self._shown, self._upstream, strict=True)]
        return self.take()

    def _cut(self, most_tokens: float) -> list[int]:
        """The position at which each log is cut."""
        ends = [max(pair) for pair in zip(self._positions, self._shown, strict=True)]
        tokens = [log.size_of(end)[1] for log, end in zip(self._logs, ends, strict=True)]
        share = max(0.0, most_tokens - sum(tokens) + sum(one.num_read for one in self._upstream)) / len(self._logs)
        return [
            max(end, log.position_at(size + share)) for log, end, size in zip(self._logs, ends, tokens, strict=True)
        ]
