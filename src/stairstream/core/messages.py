"""What a person says and what comes back: OpenAI-style chat messages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Conversation = tuple[Message, ...]


def question(text: str) -> Conversation:
    """A conversation of one user message."""
    return (Message(role="user", content=text),)


def as_dicts(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Messages in the shape that chat endpoints take."""
    return [{"role": message.role, "content": message.content} for message in messages]
