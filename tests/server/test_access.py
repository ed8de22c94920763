"""A database's contents decide the gate, and its changes are noticed in time."""

import asyncio
from pathlib import Path

import pytest

from stairstream.config.server import ServerConfig
from stairstream.server.access.gate import Caller
from stairstream.server.access.keys import KeyRing, make_key
from stairstream.server.access.limits import RunPermits
from stairstream.server.errors import ApiError
from stairstream.server.opening import FOLLOW_S, follow_keys, open_access
from stairstream.server.storage.sqlite import open_sqlite
from stairstream.server.storage.values import KeyLimits
from stairstream.sim.clock import run
from tests.server.inline import Inline


def settings(folder: Path, *, history: bool = False) -> ServerConfig:
    return ServerConfig(database=str(folder / "server.db"), history=history)


def test_without_keys_every_caller_is_admitted_and_no_database_is_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_access(settings(tmp_path), RunPermits(1)) as access:
            assert (access.needs_key, access.archive) == (False, None)
            assert access.gate.identify({}) == Caller()

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_history_alone_makes_a_database_but_no_gate(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_access(settings(tmp_path, history=True), RunPermits(1)) as access:
            assert not access.needs_key and access.archive is not None

    asyncio.run(main())
    assert (tmp_path / "server.db").exists()


@pytest.mark.parametrize("history", [False, True])
def test_first_key_changes_nothing_for_a_server_that_runs(tmp_path: Path, history: bool) -> None:
    """`keys create` says so: it needs a restart."""

    async def main() -> None:
        async with open_access(settings(tmp_path, history=history), RunPermits(1)) as access:
            async with open_sqlite(tmp_path / "server.db") as storage:
                await storage.add_key(make_key("me", KeyLimits(), at_s=0.0)[0])
            assert access.gate.identify({}) == Caller()
            assert not access.needs_key
        async with open_access(settings(tmp_path, history=history), RunPermits(1)) as access:
            assert access.needs_key

    asyncio.run(main())


def test_one_key_that_was_ever_made_closes_the_gate_even_if_it_is_revoked(tmp_path: Path) -> None:
    async def main() -> None:
        key, text = make_key("me", KeyLimits(), at_s=0.0)
        async with open_sqlite(tmp_path / "server.db") as storage:
            await storage.add_key(key)
            await storage.revoke_key(key.id, at_s=1.0)
        async with open_access(settings(tmp_path), RunPermits(1)) as access:
            assert access.needs_key
            for headers in ({}, {"authorization": f"Bearer {text}"}):
                with pytest.raises(ApiError):
                    access.gate.identify(headers)

    asyncio.run(main())


def test_failure_in_the_block_comes_out_as_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "server.db") as storage:
            await storage.add_key(make_key("me", KeyLimits(), at_s=0.0)[0])
        with pytest.raises(ZeroDivisionError):
            async with open_access(settings(tmp_path), RunPermits(1)):
                _ = 1 / 0

    asyncio.run(main())


def test_key_made_or_revoked_elsewhere_is_known_a_second_later(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "server.db"
        async with open_sqlite(file, Inline()) as here, open_sqlite(file, Inline()) as there:
            await here.has_changed()
            ring = KeyRing()
            following = asyncio.ensure_future(follow_keys(here, ring))
            key, text = make_key("me", KeyLimits(), at_s=0.0)
            await there.add_key(key)
            assert ring.find(text) is None
            await asyncio.sleep(FOLLOW_S + 0.25)
            assert ring.find(text) == key
            await there.revoke_key(key.id, at_s=1.0)
            await asyncio.sleep(FOLLOW_S)
            assert ring.find(text) is None
            following.cancel()

    run(main())
