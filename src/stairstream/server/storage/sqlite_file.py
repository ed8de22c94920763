"""A connection to a SQLite file on a thread of its own, and its transactions."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager


@asynccontextmanager
async def connected(
    connect: Callable[[], sqlite3.Connection], thread_name: str, executor: Executor | None = None
) -> AsyncIterator[tuple[sqlite3.Connection, Executor]]:
    """A connection, and the thread on which it was made and is to be used; `executor` None: a thread of its own."""
    thread = executor or ThreadPoolExecutor(1, thread_name)
    loop = asyncio.get_running_loop()
    try:
        database = await loop.run_in_executor(thread, connect)
        try:
            yield database, thread
        finally:
            # shielded: a server that is cancelled still closes its database, which folds the write-ahead log into it
            await asyncio.shield(loop.run_in_executor(thread, database.close))
    finally:
        if executor is None:
            thread.shutdown(wait=True)


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Takes the lock before anything is read: what is checked in the block still holds when it is written."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # if its disk is full, SQLite itself may have rolled back
            database.execute("ROLLBACK")
        raise
