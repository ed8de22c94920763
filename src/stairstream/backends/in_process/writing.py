"""The output of one write so far: sampled tokens become text, text becomes deltas, deltas become own words.

For every engine that gives tokens one by one.
"""

from stairstream.backends.in_process.prompting import Prompter
from stairstream.backends.in_process.tokens import Speller, Tokens
from stairstream.backends.words import DeltaMaker
from stairstream.core.graph import Agent
from stairstream.core.session import Delta, Ended, EndReason, Usage
from stairstream.core.stops import StopFinder


class Writing:
    """Takes tokens one by one, up to a stop string; they become the agent's own words."""

    def __init__(self, tokens: Tokens, prompter: Prompter, agent: Agent) -> None:
        self._prompter = prompter
        self._speller = Speller(tokens, prompter.own)
        self._maker = DeltaMaker(StopFinder(agent.sampling.stop, prompter.written[len(agent.begun) :]))
        self._pending: list[int] = []
        self.sampled: list[int] = []
        self.reason: EndReason = "limit"
        self.num_written = 0
        self.computed_tokens: int | None = None
        """Prompt tokens that were computed for it; None until that is known."""

    @property
    def num_sampled(self) -> int:
        """Tokens taken, whether they have become words or not."""
        return len(self.sampled)

    @property
    def is_at_stop(self) -> bool:
        """Whether a stop sequence ended the answer."""
        return self._maker.is_at_stop

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._maker.stop_string

    @property
    def is_inside_character(self) -> bool:
        """Whether the last tokens do not make a character yet."""
        return bool(self._pending)

    def end(self, prompt_tokens: int, early_tokens: int, *, fills_context: bool) -> Ended:
        """The end of the write, when its last token was taken; `fills_context`: its limit was the room that was left.

        Tokens that were neither computed for it nor early were cached.
        """
        return Ended(
            reason="length" if self.reason == "limit" and fills_context else self.reason,
            usage=Usage(
                prompt_tokens=prompt_tokens,
                cached_tokens=max(0, prompt_tokens - (self.computed_tokens or 0) - early_tokens),
                completion_tokens=self.num_written,
                early_tokens=early_tokens,
            ),
            stop_string=self.stop_string,
        )

    def take(self, token: int) -> Delta | None:
        """The delta that a token completes, if any."""
        if self.is_at_stop:
            return None
        self.sampled.append(token)
        self._pending.append(token)
        text = self._speller.feed(token)
        if self._speller.is_inside_character:
            return None
        ids, self._pending = tuple(self._pending), []
        delta = self._maker.feed(text, ids)
        if delta is not None:
            self.num_written += delta.num_tokens
            self._prompter.wrote(delta.text, delta.ids or ())
        return delta
