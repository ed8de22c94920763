"""Reads the version of a PostgreSQL's tables, and counts their rows."""

from stairstream.config.databases import PostgresAddress
from stairstream.server.storage.postgres.connecting import Connection, connected_once
from stairstream.server.storage.postgres.migrations import MIGRATIONS, check_version, read_version
from stairstream.server.storage.rows import COUNTED
from stairstream.server.storage.values import Contents


async def inspect_postgres(address: PostgresAddress) -> Contents:
    """The contents of a database, which is only read. Raises ConfigError if it can't be used."""
    async with connected_once(address) as connection:
        version = await read_version(connection)
        check_version(version, address)
        return Contents(version=version, newest=len(MIGRATIONS), rows=await count_rows(connection) if version else {})


async def count_rows(connection: Connection) -> dict[str, int]:
    """The number of rows, by what they are; tables that an older version has not are left out."""
    looked = await connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'stairstream' AND tablename = ANY(%s)", ([*COUNTED],)
    )
    there = {table for (table,) in await looked.fetchall()}
    counts = {}
    for table, name in COUNTED.items():
        if table not in there:
            continue
        counted = await connection.execute(f"SELECT count(*) FROM stairstream.{table}".encode())
        ((counts[name],),) = await counted.fetchall()
    return counts
