"""A session's context as pieces of token ids, in the order of core's prompts.

What is read and written is kept as ids and never tokenized again: core renders a context in which placeholders stand
for it, the chat template is put around, and the text between the placeholders is tokenized piece by piece. So are names
of control tokens in what a client says: they are text; only the template's own are control tokens.
"""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from stairstream.backends.in_process.pieces import Ids, Piece
from stairstream.backends.in_process.tokens import Tokens
from stairstream.backends.words import echo_of
from stairstream.core.context import Context
from stairstream.core.escaping import Escaper
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.prompts import render, settle
from stairstream.core.session import AskedLayout, Chunk, Layout
from stairstream.core.wording import Wording


@dataclass(frozen=True, slots=True)
class _Name:
    """The key of a control token's name in an agent's text."""

    text: str


class Prompter:
    """The context of an agent, as ids; `written` are words of its answer that were there before."""

    def __init__(
        self, tokens: Tokens, agent: Agent, conversation: Conversation, layout: AskedLayout, written: str = ""
    ) -> None:
        self._tokens = tokens
        self._asked = layout
        self._context = Context(agent=agent, conversation=conversation)
        self._edges = _edges(agent.wording)
        self._mark = _find_mark(agent, conversation)
        self._mark_pattern = re.compile(rf"{self._mark}(\d+)@@")
        self._names: dict[str, str] = {}
        self._escapers = {name: Escaper() for name in agent.reads}
        self._marked: list[tuple[Hashable, Ids | list[int]]] = []
        self._turns: list[list[int]] = [list(tokens.encode(written))]
        self._late: list[Chunk] = []
        self.written = written

    @property
    def layout(self) -> Layout:
        """The layout of the next prompt."""
        return settle(self._asked, self._context)

    @property
    def own(self) -> list[int]:
        """The ids of the answer so far."""
        return [token for turn in self._turns for token in turn]

    def read(self, chunks: Sequence[Chunk]) -> None:
        """Take in new chunks; their ids are kept where they are ids of our tokenizer too."""
        late = [*self._late, *chunks]
        if self._is_no_turn(late):
            self._late = late
            return
        if self._turns[-1]:
            self._turns.append([])
        self._context.read([replace(chunk, text=self._put(chunk)) for chunk in late])
        self._late = []

    def _is_no_turn(self, late: Sequence[Chunk]) -> bool:
        """Whether this is only the news that others have ended, for which a layout in rounds has no turn of its own."""
        if self.layout != "rounds" or any(chunk.text for chunk in late):
            return False
        return settle(self._asked, self._context.ahead(late)) == "rounds"

    def wrote(self, text: str, ids: Sequence[int]) -> None:
        """Add words of the answer."""
        if not self._turns[-1]:
            echo, number = self._echo(), len(self._turns)
            front = self._new_mark(("echo", number), echo) if echo else ""
            self._context.wrote(front + self._new_mark(("own", number), self._turns[-1]))
        self._turns[-1] += ids
        self.written += text

    def build(self) -> list[Piece]:
        """Everything before the next word."""
        prompt = render(self._context, self.layout)
        messages = prompt.messages[:-1] if prompt.continues_last else prompt.messages
        said = [replace(message, content=self._say(message.content)) for message in messages]
        pieces = self._cut(self._tokens.apply_template(said))
        if self.layout != "rounds":
            return [*pieces, Piece(("own", 0), tuple(self.own))]
        number = len(self._turns)
        echo = [Piece(("echo", number), ids)] if (ids := self._echo()) else []
        return [*pieces, *echo, Piece(("own", number), tuple(self._turns[-1]))]

    def _echo(self) -> Ids:
        """The words that the turn in flight begins with again."""
        return echo_of(self._turns[:-1]) if self.layout == "rounds" else ()

    def build_head(self) -> list[Piece]:
        """The text before the first reference, whatever will be read."""
        agent = self._context.agent
        pieces, slots = self._look_ahead([Chunk(agent=name, text="...", is_final=False) for name in agent.reads])
        return pieces[: slots[0][0]] if slots else []

    def build_ahead(self, chunks: Sequence[Chunk]) -> list[Piece]:
        """The beginning of the first prompt as far as it is certain, when these chunks are there to be read.

        Nothing is certain after the first reference that is still being written.
        """
        pieces, slots = self._look_ahead(chunks)
        finals = {chunk.agent for chunk in chunks if chunk.is_final}
        reads = self._context.agent.reads
        is_open = [name not in finals for name in reads]
        if not any(is_open):
            return pieces[:-1]
        sure = reads[: is_open.index(True) + 1]
        ends = [number + 1 for number, name in slots if name in sure]
        return pieces[: ends[-1]] if ends else self.build_head()

    def _look_ahead(self, chunks: Sequence[Chunk]) -> tuple[list[Piece], list[tuple[int, Hashable]]]:
        """The first prompt if it had these chunks; and which of its pieces are whose words."""
        ahead = Prompter(self._tokens, self._context.agent, self._context.conversation, self._asked, self.written)
        ahead.read(chunks)
        agents = {key: key[0] for key, _ in ahead._marked if isinstance(key, tuple) and key[0] in self._escapers}
        pieces = ahead.build()
        return pieces, [(number, agents[piece.key]) for number, piece in enumerate(pieces) if piece.key in agents]

    def _put(self, chunk: Chunk) -> str:
        """A placeholder for a chunk's text, escaped as the running text is."""
        if not chunk.text:
            return ""
        escaped = self._escapers[chunk.agent].feed(chunk.text)
        if chunk.ids and escaped == chunk.text and self._tokens.are_of(chunk.ids, chunk.text):
            ids = chunk.ids
        else:
            ids = self._tokens.encode(escaped)
        return self._new_mark((chunk.agent, len(self._marked)), ids)

    def _say(self, text: str) -> str:
        """The text with placeholders for names of control tokens."""
        return self._tokens.control_names.sub(self._say_name, text)

    def _say_name(self, found: re.Match[str]) -> str:
        name = found[0]
        if name not in self._names:
            self._names[name] = self._new_mark(_Name(name), self._tokens.encode(name))
        return self._names[name]

    def _new_mark(self, key: Hashable, ids: Ids | list[int]) -> str:
        self._marked.append((key, ids))
        return f"{self._mark}{len(self._marked) - 1}@@"

    def _cut(self, text: str) -> list[Piece]:
        """A rendered prompt as pieces. What is fixed is named by its text and the text that it follows, if any."""
        pieces: list[Piece] = []
        counts: Counter[Hashable] = Counter()
        before: Hashable = None
        for number, part in enumerate(self._mark_pattern.split(text)):
            if number % 2:
                key, ids = self._marked[int(part)]
                if isinstance(key, _Name):  # it may come often
                    counts[key] += 1
                    key = (key, counts[key])
                pieces.append(Piece(key, tuple(ids)))
                before = key[0] if isinstance(key, tuple) else None
                continue
            for fixed in self._edges.split(part):
                if fixed:
                    name = (fixed, before)
                    counts[name] += 1
                    pieces.append(Piece((*name, counts[name]), self._tokens.encode(fixed, is_template=True)))
                    before = None
        return _let_look_back(pieces, self._context.agent.reads)


def _let_look_back(pieces: Sequence[Piece], reads: Sequence[str]) -> list[Piece]:
    """The pieces, marked where they stand after everything that was read: the question, most of all."""
    read = [number for number, piece in enumerate(pieces) if isinstance(piece.key, tuple) and piece.key[0] in reads]
    last = read[-1] if read else len(pieces)
    return [replace(piece, looks_back=number > last) for number, piece in enumerate(pieces)]


def _edges(wording: Wording) -> re.Pattern[str]:
    """The edges at which fixed text is cut: a block, and the sentence after the last one, come and go by themselves."""
    edges = [r"(?<=\n</reference>\n)", r"(?=<reference [^<>\n]+>\n\Z)"]
    edges += [rf"(?<={re.escape(sentence)})" for sentence in (wording.partial, wording.complete) if sentence]
    return re.compile("|".join(edges))


def _find_mark(agent: Agent, conversation: Conversation) -> str:
    """The beginning of placeholders, such that no text has it already."""
    texts = [agent.instructions, *(message.content for message in conversation)]
    number = 0
    while any(f"@@stairstream-{number}-" in text for text in texts):
        number += 1
    return f"@@stairstream-{number}-"
