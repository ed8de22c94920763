"""The part of a conversation that stays the same in its later turns."""

from hashlib import sha256

from stairstream.core.messages import Conversation


def key_of(conversation: Conversation) -> str:
    """A short key of the messages up to the first question: the same for all turns of a conversation."""
    found = sha256()
    for message in conversation:
        found.update(f"{message.role}\0{message.content}\0".encode(errors="surrogatepass"))
        if message.role == "user":
            break
    return found.hexdigest()[:16]


def is_later_turn(conversation: Conversation) -> bool:
    """Whether it has an answer already."""
    return any(message.role == "assistant" for message in conversation)
