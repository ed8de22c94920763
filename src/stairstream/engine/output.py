"""What one agent puts out: its answer, its thoughts, and what of both its readers get to see."""

from stairstream.core.events import Thought, Wrote
from stairstream.core.graph import Forward
from stairstream.core.session import Delta
from stairstream.engine.log import Log


class Output:
    """Up to three logs of one agent; all are closed at once."""

    def __init__(self, agent: str, forward: Forward) -> None:
        self.answer = Log(agent)
        self.thinking = Log(agent)
        self._forward = forward
        self.forwarded = {"answer": self.answer, "thinking": self.thinking, "both": Log(agent)}[forward]

    def append(self, delta: Delta, at_s: float) -> Wrote | Thought:
        """Add a delta where it belongs; returns the event that says so."""
        agent = self.answer.agent
        start, end = (self.thinking if delta.is_thinking else self.answer).append(delta)
        if self._forward == "both":
            self.forwarded.append(delta)
        if delta.is_thinking:
            if self._forward == "answer":
                self.answer.think()
            return Thought(at_s=at_s, agent=agent, start=start, end=end, num_tokens=delta.num_tokens)
        return Wrote(
            at_s=at_s,
            agent=agent,
            start=start,
            end=end,
            num_tokens=delta.num_tokens,
            is_estimate=delta.is_estimate,
        )

    def close(self) -> None:
        """No more words will come."""
        self.thinking.close()
        self.answer.close()
        self.forwarded.close()
