"""Reads what a caller gives as a conversation: a question, or messages, also as the `openai` package has them."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, get_args

import msgspec

from stairstream.config.arguments import name_type
from stairstream.config.reading import nearest
from stairstream.conversations.explaining import Expected, expected_of, explain
from stairstream.conversations.shapes import ChatMessage
from stairstream.conversations.turns import read_turn
from stairstream.core.errors import WrongMessage
from stairstream.core.messages import Conversation, Message, Role, question

Messages = str | Iterable[Message | Mapping[str, Any]]
"""A question, or messages: `Message` values, or dicts (or objects of the `openai` package) as chat completions have
them."""

_EXAMPLE = 'such as {"role": "user", "content": "Why?"}'
_ROLES: tuple[Role, ...] = get_args(Role)


def read_conversation(given: Messages, argument: str = "conversation") -> Conversation:
    """The conversation; `argument` is its name in errors. Raises WrongMessage for anything that is none."""
    if isinstance(given, str):
        return question(given)
    if isinstance(given, Message | Mapping):
        raise WrongMessage(argument, "is one message alone; put it into a list")
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise WrongMessage(
            argument, f"is {name_type(given)}; give a question as text, or a list of messages {_EXAMPLE}"
        )
    return tuple(_read(one, f"{argument}[{number}]") for number, one in enumerate(given))


def _read(given: object, where: str) -> Message:
    if isinstance(given, Message):
        return _check(given, where)
    if not isinstance(given, Mapping) and not hasattr(given, "role"):
        raise WrongMessage(where, f"is {name_type(given)}; give a dict {_EXAMPLE}")
    try:
        message: ChatMessage = msgspec.convert(given, ChatMessage, from_attributes=True)
    except msgspec.ValidationError as exc:
        path, problem = explain(str(exc), _expected(), json.dumps(given, default=_as_plain).encode())
        raise WrongMessage(f"{where}.{path}" if path else where, problem) from None
    return read_turn(message, where)


@cache
def _expected() -> Expected:
    return expected_of(ChatMessage)


def _as_plain(value: object) -> object:
    """A value that JSON has not, in a message that is wrong."""
    return dict(value) if isinstance(value, Mapping) else getattr(value, "__dict__", None) or repr(value)


def _check(message: Message, where: str) -> Message:
    """The message, if its fields are of the types that they are declared with: Python itself does not check."""
    if message.role not in _ROLES:
        raise WrongMessage(f"{where}.role", f"{message.role!r} is not known here{nearest(str(message.role), _ROLES)}")
    if not isinstance(message.content, str):
        problem = f"is {name_type(message.content)}; give text, or make the message by Message.of_parts"
        raise WrongMessage(f"{where}.content", problem)
    return message
