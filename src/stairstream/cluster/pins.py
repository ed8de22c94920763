"""Session ids of calls that must go to one replica."""

_SIGN = "@"


def pin(tag: str) -> str:
    """The session id of calls for the replica with that tag."""
    return _SIGN + tag


def pinned(session: str) -> str | None:
    """The tag of the replica that a session id names; None for one of a conversation."""
    return session[len(_SIGN) :] if session.startswith(_SIGN) else None
