"""One agent's view of its upstream: how far each log is, how much of it has been read, and when to look again."""

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
        self._positions = [0] * len(logs)
        self._shown = [0] * len(logs)
        self._offsets = [0] * len(logs)
        self._tokens = [0] * len(logs)
        self._end_is_read = [False] * len(logs)
        self._held: list[tuple[int, bool]] | None = None

    def progress(self) -> tuple[Upstream, ...]:
        """Each upstream agent's progress, in the order in which they are read."""
        return tuple(
            Upstream(
                num_written=log.num_tokens,
                num_read=self._tokens[i],
                has_ended=log.is_closed,
                end_is_read=self._end_is_read[i],
                is_thinking=log.is_thinking,
                silent_since=log.silent_since,
            )
            for i, log in enumerate(self._logs)
        )

    def arm(self, wait: Wait, changed: Callable[[], None]) -> None:
        """Have `changed` called when a log's progress can change the decision to wait.

        It is kept until `disarm` only: a reader that held its agent would, with all of the run, be left to the
        garbage collector.
        """
        for log, one in zip(self._logs, self.progress(), strict=True):
            if not one.has_ended:
                log.watch(wakes_at(one, wait), changed)

    def disarm(self, changed: Callable[[], None]) -> None:
        """Have it called no more."""
        for log in self._logs:
            log.unwatch(changed)

    def speeches(self) -> list[Speech | None]:
        """When each upstream agent began to speak and last did."""
        return [log.speech() for log in self._logs]

    @property
    def num_read(self) -> int:
        """Tokens that have been read."""
        return sum(self._tokens)

    @property
    def num_unread(self) -> int:
        """Tokens that are there and have not been read."""
        return sum(log.num_tokens - read for log, read in zip(self._logs, self._tokens, strict=True))

    def peek(self) -> list[Chunk]:
        """Everything that is unread, and stays so."""
        chunks = []
        for i, log in enumerate(self._logs):
            if log.position > self._positions[i] or (log.is_closed and not self._end_is_read[i]):
                text, ids = log.between(self._positions[i], log.position)
                chunks.append(Chunk(agent=log.agent, text=text, ids=ids, is_final=log.is_closed))
        return chunks

    def hold(self) -> list[Chunk]:
        """The unread text as chunks, which the next `take` will bring whatever is written until then."""
        self._held = [(log.position, log.is_closed) for log in self._logs]
        return self.peek()

    def release(self) -> None:
        """The next `take` brings what is there by then."""
        self._held = None

    def rewind(self) -> None:
        """Read everything again, and no less than before: another session takes over."""
        self._held = None
        self._shown = [max(pair) for pair in zip(self._shown, self._positions, strict=True)]
        self._positions = [0] * len(self._logs)
        self._tokens = [0] * len(self._logs)
        self._end_is_read = [False] * len(self._logs)

    def take(self, most_tokens: float = float("inf")) -> tuple[list[Chunk], tuple[Reading, ...]]:
        """Everything that is unread, or was when it was held, as chunks; and what each reference looks like now.

        Where that is more than `most_tokens`, each log gives the beginning of it, within its equal share; but all that
        a session before this one was shown.
        """
        cut = self._cut(most_tokens) if self.num_unread > most_tokens else None
        held, self._held = self._held, None
        chunks, readings = [], []
        for i, log in enumerate(self._logs):
            end, is_closed = held[i] if held else (log.position, log.is_closed)
            if cut:
                end = cut[i]
            is_final = is_closed and end == log.position
            if end > self._positions[i] or (is_final and not self._end_is_read[i]):
                text, ids = log.between(self._positions[i], end)
                chunks.append(Chunk(agent=log.agent, text=text, ids=ids, is_final=is_final))
            length, self._tokens[i] = log.size_of(end)
            readings.append(Reading(agent=log.agent, start=self._offsets[i], end=length, is_final=is_final))
            self._positions[i], self._offsets[i], self._end_is_read[i] = end, length, is_final
        return chunks, tuple(readings)

    def _cut(self, most_tokens: float) -> list[int]:
        """The position at which each log is cut."""
        ends = [max(pair) for pair in zip(self._positions, self._shown, strict=True)]
        tokens = [log.size_of(end)[1] for log, end in zip(self._logs, ends, strict=True)]
        share = max(0.0, most_tokens - sum(tokens) + sum(self._tokens)) / len(self._logs)
        return [
            max(end, log.position_at(size + share)) for log, end, size in zip(self._logs, ends, tokens, strict=True)
        ]
