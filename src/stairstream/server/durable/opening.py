"""Opens the journals in a database, of whichever kind it is."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stairstream.config.databases import Database, PostgresAddress
from stairstream.server.durable.contract import JournalStore
from stairstream.server.durable.sqlite import open_sqlite_journals
from stairstream.server.storage.opening import installed, open_storage


@asynccontextmanager
async def open_journal_store(database: Database) -> AsyncIterator[JournalStore]:
    """Open the journals in a database, with its tables made or upgraded; ConfigError if it can't be used."""
    async with open_storage(database):  # one database has all tables
        pass
    if not isinstance(database, PostgresAddress):
        async with open_sqlite_journals(database) as store:
            yield store
        return
    with installed(database):
        from stairstream.server.durable.postgres import open_postgres_journals
    async with open_postgres_journals(database) as journals:
        yield journals
