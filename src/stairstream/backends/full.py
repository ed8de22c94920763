"""A context window that is full: what we say of it, and how others put it."""

import re

from stairstream.core.errors import ContextTooLong
from stairstream.core.session import Note

LEAST_ROOM_TOKENS = 64
"""An update that would leave fewer tokens of the context than this is not taken."""

_TOO_LONG = re.compile(r"context (?:length|size|window|limit)|prompt is too long|maximum.{0,20}tokens", re.I)
"""As llama.cpp, vLLM, SGLang, OpenAI and Anthropic say it."""


def says_too_long(message: str) -> bool:
    """Whether the text of a rejection is about a prompt that does not fit into the context window."""
    return _TOO_LONG.search(message) is not None


def refuse_prompt(agent: str, prompt_tokens: int, context_tokens: int) -> ContextTooLong:
    """The error of a first prompt that leaves no room for a word."""
    return ContextTooLong(
        f"the prompt of {agent!r} has {prompt_tokens} tokens, and the model's context only {context_tokens}; "
        "give it more context_tokens, or shorter references"
    )


def note_full(context_tokens: int) -> Note:
    """The note that is given once when an update is not taken."""
    text = f"the context of {context_tokens} tokens is full: the answer continues with what it had read"
    return Note(kind="full", text=text)
