"""One agent's view of its upstream: how far each log is, how much of it has been read, and when to look again."""

from collections.abc import Callable, Sequence

from stairstream.core.events import Reading
from stairstream.core.policy import Upstream, wakes_at
from stairstream.core.session import Chunk
from stairstream.engine.log import Log


class Reader:
    """Reads several logs in step. `changed` is called when a watched log has moved far enough, or has ended."""

    def __init__(self, logs: Sequence[Log], changed: Callable[[], None]) -> None:
        self._logs = tuple(logs)
        self._changed = changed
        self._positions = [0] * len(logs)
        self._offsets = [0] * len(logs)
        self._tokens = [0] * len(logs)
        self._end_is_read = [False] * len(logs)

    def progress(self) -> tuple[Upstream, ...]:
        """Each upstream agent's progress, in the order in which they are read."""
        return tuple(
            Upstream(
                num_written=log.num_tokens,
                num_read=self._tokens[i],
                has_ended=log.is_closed,
                end_is_read=self._end_is_read[i],
            )
            for i, log in enumerate(self._logs)
        )

    def arm(self, mark: float) -> None:
        """Ask to be called when a log's progress can change a decision whose mark is `mark`."""
        for log, one in zip(self._logs, self.progress(), strict=True):
            if not one.has_ended:
                log.watch(wakes_at(one, mark), self._changed)

    def disarm(self) -> None:
        """Ask no more."""
        for log in self._logs:
            log.unwatch(self._changed)

    def take(self) -> tuple[list[Chunk], tuple[Reading, ...]]:
        """Everything that is unread, as chunks; and what each reference looks like now."""
        chunks, readings = [], []
        for i, log in enumerate(self._logs):
            start = self._offsets[i]
            if log.position > self._positions[i] or (log.is_closed and not self._end_is_read[i]):
                text, ids = log.since(self._positions[i])
                chunks.append(Chunk(agent=log.agent, text=text, ids=ids, is_final=log.is_closed))
            self._positions[i] = log.position
            self._offsets[i] = len(log)
            self._tokens[i] = log.num_tokens
            self._end_is_read[i] = log.is_closed
            readings.append(Reading(agent=log.agent, start=start, end=len(log), is_final=log.is_closed))
        return chunks, tuple(readings)
