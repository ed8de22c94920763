"""The answer's words released evenly: readers and voices suffer more from a burst and a silence than from a slow word.

Only what the reader of the run sees is paced. Agents read each other's logs, which are never held.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol, TypeGuard

from stairstream.core.bounds import Bound, check_bounds
from stairstream.core.events import AgentEnded, Called, Event, Noted, RunEnded, RunStarted, Thought, Wrote
from stairstream.core.forecast import Forecast
from stairstream.core.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPace:
    """Hold the first word back for `hold_s`, then let at most `tokens_per_s` go."""

    tokens_per_s: Annotated[float, Bound(above=0)]
    hold_s: Annotated[float, Bound(least=0, unit=" of seconds")] = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)

    def see(self, event: Event) -> bool:
        """Nothing that happens changes it."""
        return False

    def interval_s(self, queued: int, now: float) -> float:
        """Seconds between two tokens."""
        return 1 / self.tokens_per_s

    @property
    def latest_s(self) -> float:
        """No word is too late."""
        return math.inf


Pace = Literal["even", "raw"] | FixedPace
"""`even`: words of a burst are spread over the time until the next one, `raw`: each is shown when it is written."""


_WORDS = (Wrote, Thought)
_OF_RUNS = (RunStarted, RunEnded)


class Tempo(Protocol):
    """Says how far apart tokens are shown, and until when. `see` returns whether queued words may be nearer than was
    said before."""

    def see(self, event: Event) -> bool: ...
    def interval_s(self, queued: int, now: float) -> float: ...
    @property
    def latest_s(self) -> float: ...


def default_pace(graph: Graph) -> Pace:
    """`even` where the answering agent's policy holds it back between its updates, else `raw`."""
    agent = graph.agent(graph.answer)
    return "even" if agent.reads and not agent.one_call and agent.policy.holds_back else "raw"


def open_pacer(
    pace: Pace,
    graph: Graph,
    clock: Callable[[], float],
    release: Callable[[Event], None],
    text: Callable[[Wrote | Thought], str],
) -> "Pacer | None":
    """The pacer of a run; None if every word is shown as it is written."""
    agent = graph.agent(graph.answer)
    if isinstance(pace, FixedPace):
        return Pacer(pace, agent.name, clock, release, text, hold_s=pace.hold_s)
    if pace == "raw" or not agent.reads:
        return None
    return Pacer(Forecast(agent.policy, agent.name, agent.reads), agent.name, clock, release, text)


class Pacer:
    """Passes events on: words and thoughts of the answering agent in order and paced, all other events at once."""

    def __init__(
        self,
        tempo: Tempo,
        answer: str,
        clock: Callable[[], float],
        release: Callable[[Event], None],
        text: Callable[[Wrote | Thought], str],
        hold_s: float = 0.0,
    ) -> None:
        """`text` is that of an event; the first word is held for `hold_s` seconds."""
        self._tempo = tempo
        self._answer = answer
        self._clock = clock
        self._release = release
        self._text = text
        self._hold_s = hold_s
        self._waiting: deque[Wrote | Thought] = deque()
        self._queued = 0
        self._last: tuple[float, int] | None = None
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Take an event; it is released now or at its time, which its `at_s` then says."""
        hurries = self._tempo.see(event)
        if self.holds(event):
            self._enqueue(event)
            if hurries or self._timer is None:
                self._pass_on(self._clock())
            return
        if not isinstance(event, _OF_RUNS) and event.agent == self._answer and _shows_all(event):
            self.flush()
        elif hurries and self._waiting:
            self._pass_on(self._clock())
        self._release(event)

    def holds(self, event: Event) -> TypeGuard[Wrote | Thought]:
        """Whether it is of those that are paced."""
        return isinstance(event, _WORDS) and event.agent == self._answer

    def restore(self, event: Event, *, is_shown: bool) -> None:
        """See an event of a run that is continued. What was shown is past, and the next word keeps its distance to it;
        what was not waits until `wake`."""
        if not self.holds(event):
            self._tempo.see(event)
        elif not is_shown:
            self._tempo.see(event)
            self._enqueue(event)
        else:
            self._waiting.popleft()
            if isinstance(event, Wrote):
                self._queued -= event.num_tokens
                self._last = event.at_s, event.num_tokens

    def wake(self) -> None:
        """Begin to release what waits."""
        self._pass_on(self._clock())

    def flush(self) -> None:
        """Release everything: the run is left or its time is up, or the answer continues in another way."""
        now = self._clock()
        while self._waiting:
            self._let_go(now)
        self._pass_on(now)

    async def drain(self) -> None:
        """Until everything that was put has been released."""
        if self._waiting:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def _enqueue(self, event: Wrote | Thought) -> None:
        if isinstance(event, Thought):
            self._waiting.append(event)
            return
        self._waiting.extend(_split(event, self._text(event)) if event.num_tokens > 1 else (event,))
        self._queued += event.num_tokens

    def _pass_on(self, now: float) -> None:
        """Release what is due, and come back for the rest; what was due at a time is never due later."""
        latest_s = math.inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer, latest_s = None, self._due_s
        while self._waiting:
            due_s = min(latest_s, self._next_due_s(now))
            if due_s > now:
                loop = asyncio.get_running_loop()
                self._due_s = due_s
                self._timer = loop.call_at(loop.time() + due_s - self._clock(), self._on_time, due_s)
                return
            self._let_go(now)
            latest_s = math.inf
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _on_time(self, due_s: float) -> None:
        """It is `due_s` now, even where the clock says a rounding error less: else a clock that jumps would stand."""
        self._timer = None
        now = max(self._clock(), due_s)
        self._let_go(now)
        self._pass_on(now)

    def _next_due_s(self, now: float) -> float:
        """When the first of the queue is to be shown."""
        if isinstance(self._waiting[0], Thought):
            return now
        if self._last is None:
            self._last = (now + self._hold_s, 0)
        shown_s, num_tokens = self._last
        return min(shown_s + num_tokens * self._tempo.interval_s(self._queued, now), self._tempo.latest_s)

    def _let_go(self, now: float) -> None:
        event = self._waiting.popleft()
        self._release(event if event.at_s >= now else replace(event, at_s=now, written_s=event.at_s))
        if isinstance(event, Wrote):
            self._queued -= event.num_tokens
            self._last = now, event.num_tokens


def _shows_all(event: Event) -> bool:
    """Whether all that is queued is shown at once: before a tool's call, at a failure, when another model continues."""
    return (
        isinstance(event, Called)
        or (isinstance(event, Noted) and event.note.kind == "failover")
        or (isinstance(event, AgentEnded) and event.reason not in ("stop", "length", "content_filter", "tool_calls"))
    )


def _split(event: Wrote, text: str) -> Iterator[Wrote]:
    """The event in pieces of a word each, as far as its tokens go: a delta of many tokens is a burst too."""
    words = re.findall(r"\s*\S+\s*$|\s*\S+|\s+$", text)
    count = max(1, min(len(words), event.num_tokens))
    start, tokens = event.start, 0
    for i in range(count):
        own = words[i * len(words) // count : (i + 1) * len(words) // count]
        end = event.end if i == count - 1 else start + sum(map(len, own))
        upto = event.num_tokens * (i + 1) // count
        yield replace(event, start=start, end=end, num_tokens=upto - tokens)
        start, tokens = end, upto
