"""The context of an agent: the conversation, the references as they stand, and its own words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An upstream agent's text as it stands in a reader's context."""

    agent: str
    text: str = ""
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The text that one step read and then wrote: the unit of the append-only layout."""

    chunks: tuple[Chunk, ...]
    words: str


class Context:
    """The state that a stateless session keeps; prompts are rendered from it, layout by layout."""

    __slots__ = ("_parts", "_turn_start", "agent", "conversation", "references", "turns")

    def __init__(self, agent: Agent, conversation: Conversation, written: str = "") -> None:
        self.agent = agent
        self.conversation = conversation
        self.references = {name: Reference(agent=name) for name in agent.reads}
        self.turns: list[Turn] = []
        self._turn_start = 0
        self._parts = [written]

    @property
    def written(self) -> str:
        """Its own words; joined when asked for, as joining them with each token would copy all of them."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0]

    def read(self, chunks: Sequence[Chunk]) -> None:
        """Take in new chunks: references grow, and a new turn begins."""
        for chunk in chunks:
            known = self.references[chunk.agent]
            self.references[chunk.agent] = replace(
                known, text=known.text + chunk.text, is_final=known.is_final or chunk.is_final
            )
        self._close_turn()
        self.turns.append(Turn(chunks=tuple(chunks), words=""))

    def ahead(self, chunks: Sequence[Chunk]) -> "Context":
        """The context as it would be if it read these now; this one stays as it is."""
        ahead = Context(agent=self.agent, conversation=self.conversation, written=self.written)
        ahead.references, ahead.turns, ahead._turn_start = dict(self.references), list(self.turns), self._turn_start
        ahead.read(chunks)
        return ahead

    def wrote(self, text: str) -> None:
        """Add words of the answer."""
        self._parts.append(text)

    def _close_turn(self) -> None:
        words = self.written[self._turn_start :]
        self._turn_start = len(self.written)
        if self.turns:
            self.turns[-1] = replace(self.turns[-1], words=self.turns[-1].words + words)

    def rounds(self) -> tuple[Turn, ...]:
        """All turns so far, the last with the words written since it began."""
        self._close_turn()
        return tuple(self.turns)

    @property
    def has_rounds(self) -> bool:
        """Whether all its words stand in turns; those of an answer that was begun elsewhere do not."""
        return sum(len(turn.words) for turn in self.rounds()) == len(self.written)

    @property
    def own(self) -> str:
        """Its own words, without those that the client began with."""
        return self.written[len(self.agent.begun) :]

    @property
    def is_complete(self) -> bool:
        """Whether every reference has ended."""
        return all(reference.is_final for reference in self.references.values())
