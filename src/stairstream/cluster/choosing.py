"""Where a call for an engine goes, by its session id: to one replica, or to that of a conversation. Without Ray."""

import hashlib
from collections.abc import Mapping, Sequence

MORE_THAN_MEAN, MORE = 1.25, 4.0
"""A conversation goes to another replica if its own has more calls than this, times the mean and above it."""

_SIGN = "@"


def pin(tag: str) -> str:
    """The session id of calls for the replica with that tag."""
    return _SIGN + tag


def pinned(session: str) -> str | None:
    """The tag of the replica that a session id names; None for one of a conversation."""
    return session[len(_SIGN) :] if session.startswith(_SIGN) else None


def rank(conversation: str, lengths: Mapping[str, int]) -> Sequence[str]:
    """Replicas for a conversation, best first; `lengths` are their calls in flight.

    By rendezvous hashing: all callers agree, and a replica that comes or goes moves only its share of conversations.
    One with far more calls than the others stands last.
    """
    most = MORE_THAN_MEAN * sum(lengths.values()) / max(1, len(lengths)) + MORE

    def key(tag: str) -> tuple[bool, bytes]:
        return lengths[tag] > most, hashlib.blake2b(f"{conversation}\0{tag}".encode(), digest_size=8).digest()

    return sorted(lengths, key=key)
