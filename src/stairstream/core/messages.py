"""OpenAI-style chat messages, with images, calls of tools and their results."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from stairstream.core.errors import RequestError
from stairstream.core.tokens import estimate_tokens

Role = Literal["system", "user", "assistant", "tool"]

IMAGE_TOKENS = 800
"""Tokens that an image is taken to count where no tokenizer counts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """Text of a message that has images too."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """An image, by its address or as a `data:` URL; never in a repr, as it may be large, or private."""

    url: str = field(repr=False)
    detail: str | None = None


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of one of the client's tools; `arguments` is the text that the model wrote, mostly JSON."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation.

    `content` is its text. A message with images has `parts` too, in the client's order: make it by `of_parts`.
    An assistant's message may have `tool_calls`; a tool's says in `tool_call_id` which of them it answers.
    """

    role: Role
    content: str
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @classmethod
    def of_parts(cls, role: Role, parts: Iterable[Part]) -> "Message":
        """A message of parts; it keeps them only if there is an image among them."""
        kept = tuple(parts)
        has_image = any(isinstance(part, ImagePart) for part in kept)
        return cls(role=role, content=_text_of(kept), parts=kept if has_image else ())

    @property
    def has_images(self) -> bool:
        """Whether it shows something."""
        return bool(self.parts)

    def append(self, text: str) -> "Message":
        """The message with a paragraph more at its end; its images stay where they are."""
        parts = (*self.parts, TextPart(text=text)) if self.parts else ()
        return replace(self, content=f"{self.content}\n\n{text}" if self.content else text, parts=parts)


Conversation = tuple[Message, ...]


def question(text: str) -> Conversation:
    """A conversation of one user message."""
    return (Message(role="user", content=text),)


def check_question(conversation: Conversation) -> None:
    """Raises RequestError for a conversation in which the user asks nothing."""
    if not any(one.role == "user" and (one.content.strip() or one.has_images) for one in conversation):
        raise RequestError("the question is empty: a conversation needs at least one user message with words in it")


def split_begun(conversation: Conversation) -> tuple[Conversation, str]:
    """The conversation without an assistant's message at its end, and that message's words, to be continued."""
    last = conversation[-1] if conversation else None
    if last is None or last.role != "assistant" or last.tool_calls:
        return conversation, ""
    return conversation[:-1], last.content


def estimate_size(message: Message) -> int:
    """Tokens of a message, images and calls too; an estimate."""
    images = sum(isinstance(part, ImagePart) for part in message.parts)
    calls = sum(estimate_tokens(call.name) + estimate_tokens(call.arguments) for call in message.tool_calls)
    return estimate_tokens(message.content) + images * IMAGE_TOKENS + calls


def move_images(messages: Iterable[Message]) -> list[Message]:
    """The messages with the images of tools' results in a message of the user after those results.

    Chat endpoints take only text from tools. A result's text says how many of its images follow.
    """
    found: list[Message] = []
    images: list[Part] = []
    for message in messages:
        if images and message.role != "tool":
            found.append(Message.of_parts("user", images))
            images = []
        if message.role == "tool" and message.parts:
            own = [part for part in message.parts if isinstance(part, ImagePart)]
            said = f"[{len(own)} image{'s' if len(own) > 1 else ''}, shown after the results of tools]"
            images += [TextPart(text=f"From the result of the call {message.tool_call_id}:"), *own]
            content = f"{message.content}\n{said}" if message.content else said
            found.append(replace(message, content=content, parts=()))
        else:
            found.append(message)
    return [*found, Message.of_parts("user", images)] if images else found


def as_dicts(messages: Iterable[Message]) -> list[dict[str, object]]:
    """Messages in the shape that chat endpoints take."""
    return [_as_dict(message) for message in messages]


def _as_dict(message: Message) -> dict[str, object]:
    fields: dict[str, object] = {"role": message.role, "content": message.content}
    if message.parts:
        fields["content"] = [_part_as_dict(part) for part in message.parts]
    if message.tool_calls:
        fields["content"] = message.content or None
        fields["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _part_as_dict(part: Part) -> dict[str, object]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(url=url, detail=None):
            return {"type": "image_url", "image_url": {"url": url}}
        case ImagePart(url=url, detail=detail):
            return {"type": "image_url", "image_url": {"url": url, "detail": detail}}


def _text_of(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))
