"""Opens the storage of a database, of whichever kind it is."""

from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager

from stairstream.config.databases import Database, PostgresAddress
from stairstream.core.errors import ConfigError
from stairstream.server.storage.contract import Storage
from stairstream.server.storage.sqlite import open_sqlite


@asynccontextmanager
async def open_storage(database: Database, executor: Executor | None = None) -> AsyncIterator[Storage]:
    """Open a database; raises ConfigError if it can't be used. `executor` is for SQLite, None: a thread of its own."""
    if not isinstance(database, PostgresAddress):
        async with open_sqlite(database, executor) as storage:
            yield storage
        return
    try:
        from stairstream.server.storage.postgres.storage import open_postgres
    except ImportError as exc:
        raise ConfigError(f"the database {database} needs: pip install 'stairstream[postgres]' ({exc})") from None
    async with open_postgres(database) as postgres:
        yield postgres


def may_exist(database: Database) -> bool:
    """Whether it is worth opening a database that is only to be read: a file may not have been made yet."""
    return isinstance(database, PostgresAddress) or database.exists()
