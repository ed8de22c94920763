"""A storage in a PostgreSQL: what is refused, and that no password is shown."""

import asyncio

import pytest

from stairstream.config.databases import PostgresAddress, read_database
from stairstream.config.reading import Where, read
from stairstream.config.server import ServerConfig
from stairstream.core.errors import ConfigError
from stairstream.server.access.limits import RunPermits
from stairstream.server.opening import open_access
from stairstream.server.storage.opening import open_storage
from stairstream.server.storage.postgres.migrations import MIGRATIONS
from tests.server.postgres import Postgres


def refused(url: str) -> str:
    async def main() -> None:
        async with open_storage(read_database(url)):
            pass

    with pytest.raises(ConfigError) as caught:
        asyncio.run(main())
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_newer_database_is_refused(postgres: Postgres) -> None:
    url = postgres.new_database()

    async def main() -> None:
        async with open_storage(read_database(url)):
            pass

    asyncio.run(main())
    postgres.run(url, f"UPDATE stairstream.schema_version SET number = {len(MIGRATIONS) + 1}")
    assert "was made by a newer stairstream" in refused(url)


def test_server_without_keys_shares_the_limits_of_models(postgres: Postgres) -> None:
    async def main() -> None:
        async with open_access(ServerConfig(database=postgres.new_database()), RunPermits(1)) as access:
            assert access.leases is not None and not access.needs_key and access.archive is None

    asyncio.run(main())


def test_tables_of_other_programs_are_left_alone(postgres: Postgres) -> None:
    url = postgres.new_database()
    postgres.run(url, "CREATE TABLE public.keys (mine TEXT)")

    async def main() -> None:
        async with open_storage(read_database(url)) as storage:
            assert await storage.keys() == []

    asyncio.run(main())
    assert postgres.run(url, "SELECT count(*) FROM public.keys") == [(0,)]


def test_schema_that_an_administrator_made_is_used(postgres: Postgres) -> None:
    url = postgres.new_database()
    postgres.run(url, "CREATE SCHEMA stairstream")

    async def main() -> None:
        async with open_storage(read_database(url)) as storage:
            assert await storage.keys() == []

    asyncio.run(main())


def test_what_is_not_there_or_not_let_in_is_one_line_without_the_password(postgres: Postgres) -> None:
    url = postgres.url("postgres")
    away = refused(postgres.url("postgres", port=1))
    assert "can't use the database postgresql://stairs@127.0.0.1:1/postgres: " in away
    assert "pass" not in away.replace("password", "")
    wrong = refused(url.replace("pass%2Fw0rd", "not%20it"))
    assert "password authentication failed" in wrong and "not" not in wrong.partition(": ")[2]
    assert "does not exist" in refused(postgres.url("nowhere"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se/cret@host/db",
        "postgresql://me:se@cret@host/db",
        "postgres://me:se?cret@host/db",
        "PostgreSQL://me:se#cret@host/db",
        "postgresql://me:se:cret@host/db",
        "postgresql://me:se cret@host/db",
    ],
)
def test_password_that_is_not_escaped_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"database: must be a file, or as in postgresql://") as caught:
        read(ServerConfig, {"database": url}, Where(file="test.yaml"))
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db?sslmode=require&password=secret", "postgresql://me@host:5432/db"),
        ("postgres://host", "postgresql://host/"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db"),
        ("postgresql://me:secret@[::1]:1,other:2/db", "postgresql://me@[::1]:1,other:2/db"),
    ],
)
def test_address_is_shown_without_its_password(url: str, shown: str) -> None:
    address = read_database(url)
    assert isinstance(address, PostgresAddress)
    assert (address.url, str(address)) == (url, shown)
    assert "secret" not in repr(address)
