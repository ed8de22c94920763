"""A session's prompt as token ids, such that what is in the slot's cache stays there.

The model's chat template is applied to placeholders, and its pieces and the contents are tokenized apart: so a content
can't smuggle in special tokens, and tokens do not change where two pieces meet. Own words are never tokenized again.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Protocol

from stairstream.backends.words import Ids, OwnWords, echo_of
from stairstream.core.context import Context
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, Message
from stairstream.core.prompts import render
from stairstream.core.session import Chunk, Layout

_MARK = re.compile(r"@@stairstream-(\d+)@@")


class Tokenizer(Protocol):
    """The part of the server that is needed here."""

    takes_system: bool

    async def tokenize(self, text: str, *, is_template: bool = False, is_first: bool = False) -> Ids:
        """Token ids of a text."""

    async def apply_template(self, messages: Sequence[Message]) -> str:
        """The text that the chat template makes of messages, ready for the assistant to begin."""


class PromptBuilder:
    """Makes ids of contexts; remembers those of the texts that it saw last."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[tuple[str, bool, bool], Ids] = {}

    async def build(self, context: Context, layout: Layout, own: OwnWords) -> Ids:
        """The ids of everything before the next word."""
        prompt = render(context, layout)
        messages = list(prompt.messages)
        if layout == "quoted" or not (context.written or own.all()):
            return await self._ids(messages, {})
        if layout == "rounds":
            return await self._build_rounds(messages, own.by_turn(), prompt.continues_last)
        if prompt.continues_last:
            del messages[-1]
        return await self._ids(messages, {}) + own.all()

    async def build_stable_head(self, agent: Agent, conversation: Conversation, layout: Layout) -> Ids:
        """The ids that every prompt of a session with references will begin with."""
        built = []
        for word in ("one", "Two"):
            context = Context(agent=agent, conversation=conversation)
            context.read([Chunk(agent=name, text=word, is_final=False) for name in agent.reads])
            built.append(await self.build(context, layout, OwnWords()))
        return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(*built, strict=False)))

    async def _build_rounds(self, messages: list[Message], turns: list[Ids], continues_last: bool) -> Ids:
        """Own turns stand as the ids that were written, after their echoes; only the last one may be open."""
        positions = [number for number, message in enumerate(messages) if message.role == "assistant"][-len(turns) :]
        echoed = [echo_of(turns[:number]) + turn for number, turn in enumerate(turns)]
        fixed = dict(zip(positions, echoed, strict=True))
        if not continues_last:
            return await self._ids(messages, fixed) + echo_of(turns)
        return await self._ids(messages[:-1], fixed) + echoed[-1]

    async def _ids(self, messages: Sequence[Message], fixed: dict[int, Ids]) -> Ids:
        contents = [message.content for message in messages]
        marked = [replace(message, content=f"@@stairstream-{i}@@") for i, message in enumerate(messages)]
        if not self._tokenizer.takes_system:
            marked = _fold_system(marked)
        before, self._known = self._known, {}
        found: list[int] = []
        for number, piece in enumerate(_MARK.split(await self._tokenizer.apply_template(marked))):
            if number % 2 == 0:
                found += await self._tokenize(piece, True, number == 0, before)
            elif (index := int(piece)) in fixed:
                found += fixed[index]
            else:
                found += await self._tokenize(contents[index], False, False, before)
        return tuple(found)

    async def _tokenize(
        self, text: str, is_template: bool, is_first: bool, before: dict[tuple[str, bool, bool], Ids]
    ) -> Ids:
        key = (text, is_template, is_first)
        ids = before.get(key) or self._known.get(key)
        if ids is None:
            ids = await self._tokenizer.tokenize(text, is_template=is_template, is_first=is_first)
        self._known[key] = ids
        return ids


def _fold_system(messages: list[Message]) -> list[Message]:
    """For templates without a system role: its text goes in front of the first user message."""
    if not messages or messages[0].role != "system":
        return messages
    system, *others = messages
    for number, message in enumerate(others):
        if message.role == "user":
            others[number] = replace(message, content=f"{system.content}\n\n{message.content}")
            return others
    return [replace(system, role="user"), *others]
