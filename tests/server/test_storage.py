"""The SQLite file: what is written can be read by another process, and money adds up between them."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from stairstream.core.errors import ConfigError
from stairstream.server.access.keys import make_key
from stairstream.server.errors import StorageFailed
from stairstream.server.storage.sqlite import MIGRATIONS, open_sqlite
from stairstream.server.storage.values import Batch, BudgetHold, Key, KeyLimits, RunUsage, Spent

LIMITS = KeyLimits(requests_per_minute=60, tokens_per_minute=1000, concurrent_runs=2, budget=5, period="month")
USED = RunUsage(prompt_tokens=10, completion_tokens=5, cost=0.1)


def key(name: str = "me", at_s: float = 1.0) -> Key:
    return make_key(name, LIMITS, at_s)[0]


def reserve(key_id: str, cost: float, number: int = 0, since: str = "") -> BudgetHold:
    return BudgetHold(id=f"r{number}", key_id=key_id, cost=cost, budget=1.0, since=since)


def batch(
    reserve: Sequence[BudgetHold] = (), spent: Sequence[Spent] = (), *, holder: str = "h", at_s: float = 0.0
) -> Batch:
    return Batch(holder=holder, at_s=at_s, reserve=reserve, spent=spent)


def spent(key_id: str, used: RunUsage | None = USED, day: str = "2026-11-23", reservation: str | None = None) -> Spent:
    return Spent(key_id=key_id, pipeline="mix", day=day, used=used, reservation=reservation)


def test_keys_come_back_as_they_were(tmp_path: Path) -> None:
    async def main() -> None:
        one, other = key("one"), key("other", at_s=2.0)
        async with open_sqlite(tmp_path / "a" / "s.db") as storage:
            await storage.add_key(other)
            await storage.add_key(one)
        async with open_sqlite(tmp_path / "a" / "s.db") as storage:
            assert await storage.keys() == [one, other]
            assert await storage.revoke_key(one.id, at_s=9.0)
            assert not await storage.revoke_key(one.id, at_s=10.0)
            assert not await storage.revoke_key("nobody", at_s=9.0)
            assert [key.revoked_at_s for key in await storage.keys()] == [9.0, None]

    asyncio.run(main())


def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db"):
            pass

    asyncio.run(main())
    assert stat.S_IMODE(os.stat(tmp_path / "s.db").st_mode) == 0o600


def test_usage_adds_up_by_day_and_pipeline(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            unpriced = RunUsage(prompt_tokens=1, completion_tokens=1, cost=None)
            await storage.commit(batch(spent=[spent("k"), spent("k", unpriced), spent("k", day="2026-11-24")] * 3))
            (first, second) = await storage.usage()
            assert (first.runs, first.unpriced_runs, first.prompt_tokens, first.completion_tokens) == (6, 3, 33, 18)
            assert (first.cost, second.cost) == (0.3, 0.3)  # exactly: 0.1 + 0.1 + 0.1 as floats is not
            assert second.day == "2026-11-24"

    asyncio.run(main())


def test_reservations_and_spending_share_one_budget(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            wishes = [reserve("k", 0.75), reserve("k", 0.5, 1), reserve("other", 1.0, 2)]
            assert await storage.commit(batch(wishes)) == [None, 0.25, None]
            # r0 has ended, and what it did not use is there again
            done = [spent("k", reservation="r0")]
            assert await storage.commit(batch([reserve("k", 0.9, 3), reserve("k", 0.01, 4)], done)) == [None, 0.0]

    asyncio.run(main())


def test_budget_of_a_period_forgets_the_days_before_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            await storage.commit(batch(spent=[spent("k", day="2026-10-31")] * 10))
            assert await storage.commit(batch([reserve("k", 0.5, 0)])) == [0.0]
            assert await storage.commit(batch([reserve("k", 0.5, 1, since="2026-11-01")])) == [None]

    asyncio.run(main())


def test_what_a_dead_process_had_reserved_becomes_usage(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            assert await storage.commit(batch([reserve("k", 1.0)], holder="dead", at_s=0.0)) == [None]
            assert await storage.commit(batch([reserve("k", 1.0, 1)], holder="living", at_s=60.0)) == [0.0]
            assert await storage.commit(batch([reserve("k", 1.0, 2)], holder="living", at_s=60.5)) == [0.0]
            (lost,) = await storage.usage()
            assert (lost.key_id, lost.day, lost.runs, lost.cost) == ("k", "1970-01-01", 1, 1.0)
            assert (lost.prompt_tokens, lost.completion_tokens) == (0, 0)  # nobody knows how many

    asyncio.run(main())


def test_process_that_was_taken_for_dead_and_settles_is_charged_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            assert await storage.commit(batch([reserve("k", 1.0)], holder="slow", at_s=0.0)) == [None]
            await storage.commit(batch(holder="living", at_s=60.5))
            await storage.commit(batch(spent=[spent("k", reservation="r0")], holder="slow", at_s=61.0))
            assert sum(one.cost for one in await storage.usage()) == 0.1
            assert sum(one.runs for one in await storage.usage()) == 1
            assert await storage.commit(batch([reserve("k", 0.9, 1)], holder="slow", at_s=62.0)) == [None]

    asyncio.run(main())


def test_change_by_another_process_is_seen_and_one_s_own_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as here, open_sqlite(tmp_path / "s.db") as there:
            await here.has_changed()
            await here.add_key(key())
            assert not await here.has_changed()
            await there.add_key(key())
            assert await here.has_changed()
            assert not await here.has_changed()

    asyncio.run(main())


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


def test_database_that_fails_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            breaker = sqlite3.connect(tmp_path / "s.db")
            breaker.execute("DROP TABLE usage")
            breaker.close()
            with pytest.raises(StorageFailed, match=r"s\.db failed: no such table"):
                await storage.usage()

    asyncio.run(main())


SPENDER = """
import asyncio, sys
from pathlib import Path
from stairstream.server.storage.values import RunUsage
from stairstream.server.storage.sqlite import open_sqlite
from stairstream.server.storage.values import Batch, BudgetHold, Spent

async def main(file, name):
    made = 0
    async with open_sqlite(Path(file)) as storage:
        for number in range(60):
            wish = BudgetHold(id=f"{name}{number}", key_id="k", cost=0.02, budget=1.0, since="")
            (left,) = await storage.commit(Batch(holder=name, at_s=0.0, reserve=[wish]))
            if left is None:
                made += 1
                used = RunUsage(prompt_tokens=1, completion_tokens=1, cost=0.02)
                over = Spent(key_id="k", pipeline="mix", day="2026-11-23", used=used, reservation=wish.id)
                await storage.commit(Batch(holder=name, at_s=0.0, spent=[over]))
    print(made)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
def test_processes_that_begin_together_spend_exactly_the_budget(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPENDER, str(tmp_path / "s.db")]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b", "c")]
    made = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(made) == 50

    async def main() -> None:
        async with open_sqlite(tmp_path / "s.db") as storage:
            (usage,) = await storage.usage()
            assert (usage.runs, usage.cost) == (50, 1.0)

    asyncio.run(main())
