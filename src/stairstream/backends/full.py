"""What engines with a context of fixed size say when it is full."""

from stairstream.core.errors import ModelUnusable
from stairstream.core.session import Note

LEAST_ROOM_TOKENS = 64
"""An update that would leave fewer tokens of the context than this is not taken."""


def refuse_prompt(agent: str, prompt_tokens: int, context_tokens: int) -> ModelUnusable:
    """The error of a first prompt that leaves no room for a word."""
    return ModelUnusable(
        f"the prompt of {agent!r} has {prompt_tokens} tokens, and the model's context only {context_tokens}; "
        "give it more context_tokens, or shorter references"
    )


def note_full(context_tokens: int) -> Note:
    """What is said once when an update is not taken."""
    text = f"the context of {context_tokens} tokens is full: the answer goes on with what it had read"
    return Note(kind="full", text=text)
