"""One call of a script, decided before its first token: what it says, when, and what goes wrong.

The scripted session and the fake server both say a speech, the one as items and the other as bytes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from stairstream.backends.scripted.faults import LATE_FAULTS, SILENT_FAULTS, Fault
from stairstream.backends.scripted.manner import Cue, make_cues
from stairstream.backends.scripted.script import Script
from stairstream.backends.scripted.words import pieces_of
from stairstream.core.messages import ToolCall


class Speech:
    """One call's output: thoughts, tokens of the answer (None for one that spells nothing), pieces of calls of tools.

    `number` counts the calls of a model from 0; `first_s` is when the first token is due. `room` is the most tokens of
    all three kinds; `is_limited`: there was more to say.
    """

    def __init__(
        self,
        script: Script,
        number: int,
        first_s: float,
        *,
        thoughts: Sequence[str],
        tokens: Sequence[str | None],
        calls: Sequence[ToolCall],
        room: int | None,
    ) -> None:
        self.fault = script.fault if script.fault and script.fault.strikes(number) else None
        if self.fault and self.fault.kind in SILENT_FAULTS:
            thoughts, tokens, calls = (), (), ()
        pieces = list(pieces_of(calls))
        num_all = len(thoughts) + len(tokens) + len(pieces)
        left = num_all if room is None else room
        self.is_limited = left < num_all
        self.thoughts = thoughts[:left]
        self.tokens = tokens[: left - len(self.thoughts)]
        self.pieces = pieces[: left - len(self.thoughts) - len(self.tokens)]
        self._script, self._number, self._first_s = script, number, first_s

    @property
    def reason(self) -> Literal["stop", "tool_calls", "limit", "length"]:
        """The reason by which it ends if it is not stopped."""
        if self.fault and self.fault.kind == "length_at_once":
            return "length"
        if self.is_limited:
            return "limit"
        return "tool_calls" if self.pieces else "stop"

    def steps(self) -> Iterator[tuple[float, Cue | Fault]]:
        """Batches of tokens with the time when the last of each is due; a fault replaces the token that it hits.

        Nothing comes after a fault. The time of `hang` is infinite. Without any token of the answer an empty batch at
        the end says when that is.
        """
        fault = self.fault if self.fault and self.fault.kind in LATE_FAULTS else None
        hits_at = fault.after_tokens if fault and fault.kind != "no_done" else None
        num_tokens = len(self.tokens) + len(self.pieces)
        sizes, end_s = self._script.manner.sizes(self._number + 1), self._first_s
        for cue in make_cues(sizes, self.thoughts, self.tokens, self.pieces, hits_at):
            end_s = self._due_s(cue.last)
            if fault and cue.kind != "thoughts" and cue.start == hits_at:
                yield math.inf if fault.kind == "hang" else end_s, fault
                return
            yield end_s, cue
        if not num_tokens:
            end_s = self._due_s(len(self.thoughts))
            yield end_s, Cue("words", 0, len(self.thoughts), ())
        if fault and (fault.kind == "no_done" or (hits_at == num_tokens and not self.is_limited)):
            yield math.inf if fault.kind == "hang" else end_s, fault

    def _due_s(self, index: int) -> float:
        """When a token of the call is due."""
        return self._first_s + index * self._script.token_s
