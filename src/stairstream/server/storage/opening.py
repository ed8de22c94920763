"""Opens, inspects and copies a database, of whichever kind it is."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from stairstream.config.databases import Database, PostgresAddress
from stairstream.core.errors import ConfigError
from stairstream.server.storage.contract import Storage
from stairstream.server.storage.sqlite import inspect_sqlite, open_sqlite
from stairstream.server.storage.values import Contents


@asynccontextmanager
async def open_storage(database: Database, executor: Executor | None = None) -> AsyncIterator[Storage]:
    """Open a database; raises ConfigError if it can't be used. `executor` is for SQLite, None: a thread of its own."""
    if not isinstance(database, PostgresAddress):
        async with open_sqlite(database, executor) as storage:
            yield storage
        return
    with installed(database):
        from stairstream.server.storage.postgres.storage import open_postgres
    async with open_postgres(database) as postgres:
        yield postgres


async def inspect_storage(database: Database) -> Contents:
    """The contents of a database, which is only read; ConfigError if it can't be used."""
    if not isinstance(database, PostgresAddress):
        return inspect_sqlite(database)
    with installed(database):
        from stairstream.server.storage.postgres.tending import inspect_postgres
    return await inspect_postgres(database)


async def copy_storage(source: Path, target: PostgresAddress) -> dict[str, int]:
    """Copy a SQLite file into a PostgreSQL that holds nothing, all or nothing; returns the number of rows by what they
    are. ConfigError if it can't be."""
    with installed(target):
        from stairstream.server.storage.postgres.copying import copy_sqlite
    return await copy_sqlite(source, target)


@contextmanager
def installed(address: PostgresAddress) -> Iterator[None]:
    """ConfigError if the driver of PostgreSQL can't be imported."""
    try:
        yield
    except ImportError as exc:
        raise ConfigError(f"the database {address} needs: pip install 'stairstream[postgres]' ({exc})") from None


def may_exist(database: Database) -> bool:
    """Whether it is worth opening a database that is only to be read: a file may not have been made yet."""
    return isinstance(database, PostgresAddress) or database.exists()
