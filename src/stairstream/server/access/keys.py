"""API keys: makes them, and finds the key that a request sends.

A key holds 256 random bits, so there is nothing to guess, and a fast hash (SHA-256) is as safe at rest as a slow one:
those are for passwords. Only the hash is kept; the key itself is shown once, when it is made.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable

from stairstream.server.storage.values import Key, KeyLimits

_PREFIX = "sk-stair-"
_FORM = re.compile(rf"{_PREFIX}[0-9a-f]{{12}}-[0-9a-f]{{64}}")


def make_key(
    name: str, limits: KeyLimits, at_s: float, random_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[Key, str]:
    """Make a new key; returns what is stored of it, and its secret text."""
    key_id = random_bytes(6).hex()
    text = f"{_PREFIX}{key_id}-{random_bytes(32).hex()}"
    return Key(id=key_id, name=name, digest=_digest(text), created_at_s=at_s, limits=limits), text


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class KeyRing:
    """The keys that this process knows."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys: dict[str, Key] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[Key]) -> None:
        """Replace all known keys by these."""
        self._keys = {key.id: key for key in keys}

    def get(self, key_id: str) -> Key | None:
        """The key of that id, if it may still be used."""
        key = self._keys.get(key_id)
        return key if key and key.revoked_at_s is None else None

    def may_be_new(self, text: str) -> bool:
        """Whether this has the form of a key, with an id that is unknown."""
        return bool(_FORM.fullmatch(text)) and text.removeprefix(_PREFIX).partition("-")[0] not in self._keys

    def find(self, text: str) -> Key | None:
        """The key with this text, if it may be used. Looked up by its id; the secret is compared in constant time."""
        key = self._keys.get(text.removeprefix(_PREFIX).partition("-")[0])
        is_right = hmac.compare_digest(key.digest if key else b"\0" * 32, _digest(text))
        return key if key and is_right and key.revoked_at_s is None else None
