"""A database's contents decide the gate, and its changes are noticed in time."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from stairstream.config.server import ServerConfig
from stairstream.core.errors import ConfigError
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Caller
from stairstream.server.access.keyed_gate import KeyedGate
from stairstream.server.access.keys import KeyRing, make_key
from stairstream.server.access.limits import RunPermits
from stairstream.server.errors import ApiError, StorageFailed
from stairstream.server.http.routes import Api
from stairstream.server.observing.metrics import Metrics, make_metrics_route
from stairstream.server.opening import FOLLOW_S, LOOK_S, KeyFollower, open_access
from stairstream.server.storage.contract import Storage
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
            assert (await access.gate.identify({})) == Caller()

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
            assert await access.gate.identify({}) == Caller()
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
                    (await access.gate.identify(headers))

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
            following = asyncio.ensure_future(KeyFollower(here, ring).follow())
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


class Counted:
    """A storage of keys that counts how often it is read, and fails while it `is_broken`."""

    def __init__(self) -> None:
        self.reads_s: list[float] = []
        self.is_broken = False

    async def has_changed(self) -> bool:
        self.reads_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.001)
        if self.is_broken:
            raise StorageFailed("the database s.db failed: disk I/O error")
        return False


def test_many_unknown_keys_at_once_cost_two_reads_and_others_wait_a_tenth_of_a_second() -> None:
    async def main() -> None:
        counted = Counted()
        follower = KeyFollower(cast(Storage, counted), KeyRing())
        async with asyncio.TaskGroup() as tasks:
            for _ in range(1000):
                tasks.create_task(follower.refresh())
        assert len(counted.reads_s) == 1
        for _ in range(10):
            await follower.refresh()
        gaps = [later - sooner for sooner, later in pairwise(counted.reads_s)]
        assert len(gaps) == 10 and min(gaps) >= LOOK_S - 1e-9

    run(main())


def test_unknown_key_gets_503_while_the_keys_cannot_be_read_and_401_after() -> None:
    async def main() -> None:
        counted = Counted()
        counted.is_broken = True
        ring = KeyRing()
        ledger = Ledger(cast(Storage, counted))
        gate = KeyedGate(RunPermits(1), ring, ledger, KeyFollower(cast(Storage, counted), ring).refresh)
        app = Api([make_metrics_route(Metrics(), gate)])
        headers = [(b"x-api-key", make_key("me", KeyLimits(), at_s=0.0)[1].encode())]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def ask() -> None:
            await app({"type": "http", "method": "GET", "path": "/metrics", "headers": headers}, receive, send)

        async with asyncio.TaskGroup() as tasks:  # the second shares the read of the first, and its failure
            tasks.create_task(ask())
            tasks.create_task(ask())
        begun = [message for message in sent if message["type"] == "http.response.start"]
        assert [message["status"] for message in begun] == [503, 503]
        assert all(dict(message["headers"])[b"retry-after"] == b"1" for message in begun)
        assert all(b"s.db" not in message.get("body", b"") for message in sent)
        counted.is_broken = False
        sent.clear()
        await ask()
        assert sent[0]["status"] == 401

    run(main())


@pytest.mark.parametrize("history", [True, False])
def test_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path, history: bool) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("a file, where the folder should be")

    async def main() -> None:
        async with open_access(settings(blocked, history=history), RunPermits(1)) as access:
            assert not access.needs_key  # without keys or history no folder is needed

    if not history:
        asyncio.run(main())
        return
    with pytest.raises(ConfigError) as raised:
        asyncio.run(main())
    said = str(raised.value)
    assert str(blocked) in said and "STAIRSTREAM_DATA" in said and "\n" not in said
