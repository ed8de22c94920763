"""A storage in a SQLite file: whose file it is, what is refused, and how it fails."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stairstream.core.errors import ConfigError
from stairstream.server.errors import StorageFailed
from stairstream.server.storage.sqlite import MIGRATIONS, open_sqlite
from tests.server.storage.records import key


def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db"):
            pass

    asyncio.run(main())
    assert stat.S_IMODE(os.stat(tmp_path / "s.db").st_mode) == 0o600


def test_what_is_no_database_is_one_line(tmp_path: Path) -> None:
    async def main(file: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            async with open_sqlite(file):
                pass
        return str(caught.value)

    (tmp_path / "text.db").write_text("hello " * 1000)
    assert asyncio.run(main(tmp_path / "text.db")).endswith("text.db: file is not a database")
    assert "is a directory" in asyncio.run(main(tmp_path))
    (tmp_path / "new.db").touch()
    newer = sqlite3.connect(tmp_path / "new.db")
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    assert "was made by a newer stairstream" in asyncio.run(main(tmp_path / "new.db"))


OPENS_AND_CLOSES = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(database.execute("SELECT count(*) FROM keys").fetchone()[0])
database.close()
"""


def count_keys(file: Path) -> int:
    """As another process has them."""
    return int(subprocess.check_output([sys.executable, "-c", OPENS_AND_CLOSES, str(file)]))


def test_what_a_process_writes_with_several_connections_is_kept_when_another_one_closes(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as one, open_sqlite(tmp_path / "s.db") as other:
            for number, storage in enumerate((one, other, one), 1):
                await storage.add_key(key(f"{number}"))
                assert await asyncio.to_thread(count_keys, tmp_path / "s.db") == number

    asyncio.run(main())


def test_database_that_fails_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            breaker = sqlite3.connect(tmp_path / "s.db")
            breaker.execute("DROP TABLE usage")
            breaker.close()
            with pytest.raises(StorageFailed, match=r"s\.db failed: no such table"):
                await storage.usage()

    asyncio.run(main())
