"""Connections to a PostgreSQL: a pool in which nothing waits without a limit, and its errors as ours."""

import asyncio
import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from psycopg import AsyncConnection, DataError, Error, IntegrityError, OperationalError, ProgrammingError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from stairstream.config.databases import PostgresAddress
from stairstream.core.errors import ConfigError
from stairstream.server.errors import StorageFailed

CONNECT_S = 3
"""Time to make a connection."""
POOL_S = 3.0
"""Time to get one of the pool's connections."""
STATEMENT_S = 5.0
"""Time for a statement; and for a process that is stuck between two of them, since others wait for its locks."""
CUT_S = 8.0
"""Time for all statements of one call; then the connection is cut, as where a network swallows everything."""
MOST_CONNECTIONS = 4

_LASTING = (DataError, IntegrityError, ProgrammingError)
_SETTINGS = f"""
    SET statement_timeout = '{STATEMENT_S:g}s'; SET idle_in_transaction_session_timeout = '{STATEMENT_S:g}s';
    SET application_name = 'stairstream'
"""

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

# an outage is one line of ours, not one of the pool's for each connection
logging.getLogger("psycopg").addHandler(logging.NullHandler())


@asynccontextmanager
async def open_pool(address: PostgresAddress) -> AsyncIterator[Pool]:
    """A pool, whose connections are made when they are needed: the database need not be there."""
    pool = Pool(
        address.url,
        connection_class=Connection,
        kwargs={"autocommit": True, "connect_timeout": CONNECT_S},
        min_size=0,
        max_size=MOST_CONNECTIONS,
        timeout=POOL_S,
        reconnect_timeout=CONNECT_S,
        configure=_configure,
        check=_check,
        open=False,
    )
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def connected_once(address: PostgresAddress) -> AsyncIterator[Connection]:
    """A connection of its own, whose statements may take long; ConfigError if there is none."""
    try:
        made = await Connection.connect(address.url, autocommit=True, connect_timeout=CONNECT_S)
    except Error as exc:
        raise ConfigError(f"can't use the database {address}: {first_line(exc)}") from None
    async with made:
        try:
            yield made
        except Error as exc:
            raise ConfigError(f"can't use the database {address}: {first_line(exc)}") from None


async def _configure(connection: Connection) -> None:
    await connection.execute(_SETTINGS)


async def _check(connection: Connection) -> None:
    """Find a connection that was closed while it rested, without asking the database: its end can be read."""
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    if readable:
        connection.pgconn.consume_input()
        if connection.broken:
            raise OperationalError("the connection was closed")


@contextmanager
def cut_after(connection: Connection, limit_s: float) -> Iterator[None]:
    """Cut the connection if the block takes longer: whatever waits for it then fails."""
    cutting = asyncio.get_running_loop().call_later(limit_s, _cut, connection)
    try:
        yield
    finally:
        cutting.cancel()


def _cut(connection: Connection) -> None:
    with suppress(OSError, Error), socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)


def failed(address: PostgresAddress, exc: Error | PoolTimeout) -> StorageFailed:
    """The error of a storage."""
    said = "no connection" if isinstance(exc, PoolTimeout) else first_line(exc)
    return StorageFailed(f"the database {address} failed: {said}", may_pass=not isinstance(exc, _LASTING))


def first_line(exc: BaseException) -> str:
    """What an error says, in one line."""
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
