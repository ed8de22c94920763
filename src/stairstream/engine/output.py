"""The output of one agent: its answer, its thoughts, and the part of both that its readers get to see."""

import math
from collections.abc import Mapping, Sequence

from stairstream.core.events import Thought, Wrote
from stairstream.core.graph import Forward
from stairstream.core.session import Delta
from stairstream.engine.held_back import HeldBack
from stairstream.engine.log import Log


class Output:
    """Up to three logs of one agent; all are closed at once. Its answer ends before the first of `stops`."""

    __slots__ = (
        "_forward",
        "_held",
        "_miscounted",
        "answer",
        "forwarded",
        "has_called",
        "thinking",
    )

    def __init__(self, agent: str, forward: Forward, stops: Sequence[str] = ()) -> None:
        self.answer = Log(agent)
        self.thinking = Log(agent)
        self._forward = forward
        self.forwarded = {"answer": self.answer, "thinking": self.thinking, "both": Log(agent)}[forward]
        self._held = HeldBack(stops) if stops else None
        self._miscounted = 0
        self.has_called = False
        """Whether it has begun to call a tool."""

    @property
    def written(self) -> str:
        """Its answer, with what of it is held back still."""
        return self.answer.text() + (self._held.text if self._held else "")

    @property
    def num_tokens(self) -> int:
        """Tokens of what is written, by its endpoint's count as far as that is known."""
        return self.answer.num_tokens + self._miscounted + (self._held.num_tokens if self._held else 0)

    @property
    def size(self) -> int:
        """Characters of what is written."""
        return len(self.answer) + (len(self._held.text) if self._held else 0)

    def recount(self, difference: int) -> None:
        """So many tokens more than the deltas said were written, or fewer."""
        self._miscounted += difference

    @property
    def stop_string(self) -> str | None:
        """The stop string that has ended the answer, if one has."""
        return self._held.stop_string if self._held else None

    def ask(self, at_s: float) -> None:
        """A call begins that may bring words."""
        self.forwarded.ask(at_s)

    def rest(self) -> None:
        """No call is in flight: its silence says nothing."""
        self.forwarded.heard_s = math.inf

    def append(self, delta: Delta, at_s: float) -> Sequence[Wrote | Thought]:
        """Add a delta where it belongs; returns the events that say so, none while it may become a stop string."""
        if delta.is_thinking:
            return (self._think(delta, at_s),)
        self.forwarded.heard_s = at_s
        if self._held is None:
            return (self._write(delta, at_s),)
        return [self._write(one, at_s) for one in self._held.feed(delta)]

    def restore(self, event: Wrote | Thought, text: str) -> None:
        """Put back what its agent wrote before its process was lost: it had been shown, so none of it is held back."""
        at_s = event.at_s if event.written_s is None else event.written_s
        if isinstance(event, Thought):
            self._think(Delta(text, event.num_tokens, is_thinking=True), at_s)
        else:
            self._write(Delta(text, event.num_tokens, is_estimate=event.is_estimate), at_s)
            if self._held is not None:
                self._held.restore(text)
        self.rest()

    def release(self, at_s: float) -> Sequence[Wrote]:
        """Show what was held back, as no more words will come after it."""
        return [self._write(one, at_s) for one in self._held.release()] if self._held else ()

    def close(self) -> None:
        """No more words will come."""
        self.thinking.close()
        self.answer.close()
        self.forwarded.close()

    def _write(self, delta: Delta, at_s: float) -> Wrote:
        start, end = self.answer.append(delta)
        if not start and self.forwarded.begun_s == math.inf:
            self.forwarded.begun_s = at_s
        if self._forward == "both":
            self.forwarded.append(delta)
        return Wrote(
            at_s=at_s,
            agent=self.answer.agent,
            start=start,
            end=end,
            num_tokens=delta.num_tokens,
            is_estimate=delta.is_estimate,
        )

    def _think(self, delta: Delta, at_s: float) -> Thought:
        start, end = self.thinking.append(delta)
        if self._forward == "both":
            self.forwarded.append(delta)
        if self._forward != "answer":
            self.forwarded.heard_s = at_s
        elif not self.answer.is_thinking:
            self.forwarded.heard_s = at_s
            self.answer.think()
        return Thought(at_s=at_s, agent=self.answer.agent, start=start, end=end, num_tokens=delta.num_tokens)


def text_of(outputs: Mapping[str, Output], event: Wrote | Thought) -> str:
    """The words that an event is about."""
    output = outputs[event.agent]
    log = output.answer if isinstance(event, Wrote) else output.thinking
    return log.text(event.start, event.end)
