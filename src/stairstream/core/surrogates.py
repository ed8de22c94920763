"""Halves of characters: JSON can send one as an escape, and some servers cut between two. Our text holds none."""

_FIRST, _LAST = "\ud800", "\udfff"
_LAST_HIGH = "\udbff"
_UNKNOWN = "\ufffd"


def has_halves(text: str) -> bool:
    """Whether a text holds half a character."""
    return any(_FIRST <= c <= _LAST for c in text)


def join_halves(held: str, text: str) -> tuple[str, str]:
    """The text after what was held back, without halves; and a last half that its other may still follow."""
    text = (held + text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    held = text[-1:] if _FIRST <= text[-1:] <= _LAST_HIGH else ""
    return scrub(text[: len(text) - len(held)]), held


def scrub(text: str) -> str:
    """Each half that has no other becomes the replacement character."""
    return "".join(_UNKNOWN if _FIRST <= c <= _LAST else c for c in text) if has_halves(text) else text
