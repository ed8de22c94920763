"""Connections to a PostgreSQL: a pool in which nothing waits without a limit, and its errors as ours."""

import asyncio
import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

from psycopg import AsyncConnection, DataError, Error, IntegrityError, ProgrammingError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from stairstream.config.databases import PostgresAddress
from stairstream.core.errors import ConfigError
from stairstream.server.errors import StorageFailed

MOST_CONNECTIONS = 4
KEPT_CONNECTIONS = 2
"""For usage and for leases, which are written at the same time."""

_LASTING = (DataError, IntegrityError, ProgrammingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long anything waits for the database.

    `connect_s` is for a new connection, `pool_s` for one of the pool. `statement_s` is for a statement, and for a
    process that is stuck between two of them, since others wait for its locks. `call_s` is for all statements of one
    call: then its connection is cut, as where a network swallows everything.
    """

    connect_s: int = 3
    pool_s: float = 3.0
    statement_s: float = 5.0
    call_s: float = 8.0


Connection = AsyncConnection[tuple[Any, ...]]

# an outage is a line of ours, which says why, not several of the pool's for each connection
logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)


class Pool(AsyncConnectionPool[Connection]):
    """A pool that knows why it has no connection."""

    refusal = "no connection is free"


@asynccontextmanager
async def open_pool(address: PostgresAddress, patience: Patience) -> AsyncIterator[Pool]:
    """A pool. Its connections are made beside all else: the database need not be there."""
    limit = f"{patience.statement_s * 1000:.0f}"
    settings = f"SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}"
    settings += "; SET default_transaction_isolation = 'read committed'; SET search_path = stairstream"

    async def configure(connection: Connection) -> None:
        await connection.execute(f"{settings}; SET application_name = 'stairstream'".encode())

    class Noting(AsyncConnection[tuple[Any, ...]]):
        @classmethod
        async def connect(cls, *args: Any, **kwargs: Any) -> Self:
            try:
                return await super().connect(*args, **kwargs)
            except Error as exc:
                pool.refusal = first_line(exc)
                raise

    pool = Pool(
        address.url,
        connection_class=Noting,
        kwargs={"autocommit": True, "connect_timeout": patience.connect_s},
        min_size=KEPT_CONNECTIONS,
        max_size=MOST_CONNECTIONS,
        timeout=patience.pool_s,
        reconnect_timeout=patience.connect_s,
        configure=configure,
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
        made = await Connection.connect(address.url, autocommit=True, connect_timeout=Patience().connect_s)
    except Error as exc:
        raise ConfigError(f"can't use the database {address}: {first_line(exc)}") from None
    async with made:
        try:
            yield made
        except Error as exc:
            raise ConfigError(f"can't use the database {address}: {first_line(exc)}") from None


@asynccontextmanager
async def connected(pool: Pool) -> AsyncIterator[Connection]:
    """One of the pool's connections that has not broken while it rested."""
    while True:
        connection = await pool.getconn()
        try:
            if not await _has_ended(connection):
                yield connection
                return
        finally:
            await pool.putconn(connection)  # a broken one is replaced


async def _has_ended(connection: Connection) -> bool:
    """Whether a connection was closed while it rested: only then is there something to read, and the database asked."""
    resting = select.poll()  # not select(): it knows no more than 1024 files
    try:
        resting.register(connection.fileno(), select.POLLIN)
        if resting.poll(0):
            await Pool.check_connection(connection)
    except Error:
        return True
    return False


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


def failed(address: PostgresAddress, pool: Pool, exc: Error | PoolTimeout) -> StorageFailed:
    """The error of a storage."""
    said = pool.refusal if isinstance(exc, PoolTimeout) else first_line(exc)
    return StorageFailed(f"the database {address} failed: {said}", may_pass=not isinstance(exc, _LASTING))


def first_line(exc: BaseException) -> str:
    """The first line of an error's message."""
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
