"""Keys: shown once, kept as a hash, found by their id, refused once revoked."""

from dataclasses import replace

import pytest

from stairstream.server.access.keys import KeyRing, make_key
from stairstream.server.storage.values import Key, KeyLimits


def made(name: str = "me") -> tuple[Key, str]:
    return make_key(name, KeyLimits(), at_s=5.0)


def test_nothing_that_is_kept_holds_the_key() -> None:
    key, text = made()
    secret = text.removeprefix(f"sk-stair-{key.id}-")
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in repr(key)
    assert key.digest.hex() not in repr(key)
    assert bytes.fromhex(secret) not in key.digest and secret.encode() not in key.digest


def test_each_key_is_another() -> None:
    assert made()[1] != made()[1]


def test_ring_finds_a_key_by_its_text_only() -> None:
    (one, text), (other, _) = made("one"), made("other")
    ring = KeyRing([one, other])
    assert ring.find(text) == one
    for wrong in (text[:-1], text + "0", text.upper(), one.id, f"sk-stair-{other.id}-{text[-64:]}", "", "\udcff", "ü"):
        assert ring.find(wrong) is None


def test_revoked_key_is_not_found() -> None:
    key, text = made()
    ring = KeyRing([key])
    ring.replace([replace(key, revoked_at_s=9.0)])
    assert ring.find(text) is None
    assert ring.get(key.id) is None


@pytest.mark.parametrize("at", [0, 9, 30, 70])
def test_one_wrong_character_is_enough(at: int) -> None:
    key, text = made()
    wrong = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    assert KeyRing([key]).find(wrong) is None
