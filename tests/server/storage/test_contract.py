"""The contract of storages, on every kind of database: another process reads what is written, and money adds up."""

import asyncio
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from stairstream.config.databases import Database, PostgresAddress
from stairstream.server.storage.opening import open_storage
from stairstream.server.storage.values import (
    Batch,
    LeaseAsk,
    PastCursor,
    PastLine,
    RateAnswer,
    RateAsk,
    RunUsage,
    SlotAsk,
)
from tests.server.storage.records import batch, key, past, reserve, spent


def test_keys_come_back_as_they_were(database: Database) -> None:
    async def main() -> None:
        one, other = key("one"), key("other", at_s=2.0)
        async with open_storage(database) as storage:
            await storage.add_key(other)
            await storage.add_key(one)
        async with open_storage(database) as storage:
            assert await storage.keys() == [one, other]
            assert await storage.revoke_key(one.id, at_s=9.0)
            assert not await storage.revoke_key(one.id, at_s=10.0)
            assert not await storage.revoke_key("nobody", at_s=9.0)
            assert [key.revoked_at_s for key in await storage.keys()] == [9.0, None]

    asyncio.run(main())


def test_usage_adds_up_by_day_and_pipeline(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            unpriced = RunUsage(prompt_tokens=1, completion_tokens=1, cost=None)
            some = [spent("k"), spent("k", unpriced), spent("k", day="2026-11-24")]
            await storage.commit(batch(spent=some * 2))
            await storage.commit(batch(spent=some))
            (first, second) = await storage.usage()
            assert (first.runs, first.unpriced_runs, first.prompt_tokens, first.completion_tokens) == (6, 3, 33, 18)
            assert (first.cost, second.cost) == (0.3, 0.3)  # exactly: 0.1 + 0.1 + 0.1 as floats is not
            assert second.day == "2026-11-24"

    asyncio.run(main())


def test_reservations_and_spending_share_one_budget(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            wishes = [reserve("k", 0.75), reserve("k", 0.5, 1), reserve("other", 1.0, 2)]
            assert await storage.commit(batch(wishes)) == [None, 0.25, None]
            # r0 has ended, and what it did not use is there again
            done = [spent("k", reservation="r0")]
            assert await storage.commit(batch([reserve("k", 0.9, 3), reserve("k", 0.01, 4)], done)) == [None, 0.0]

    asyncio.run(main())


def test_budget_of_a_period_forgets_the_days_before_it(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            await storage.commit(batch(spent=[spent("k", day="2026-10-31")] * 10))
            assert await storage.commit(batch([reserve("k", 0.5, 0)])) == [0.0]
            assert await storage.commit(batch([reserve("k", 0.5, 1, since="2026-11-01")])) == [None]

    asyncio.run(main())


def test_what_a_dead_process_had_reserved_becomes_usage(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            assert await storage.commit(batch([reserve("k", 1.0)], holder="dead", at_s=0.0)) == [None]
            assert await storage.commit(batch([reserve("k", 1.0, 1)], holder="living", at_s=60.0)) == [0.0]
            assert await storage.commit(batch([reserve("k", 1.0, 2)], holder="living", at_s=60.5)) == [0.0]
            (lost,) = await storage.usage()
            assert (lost.key_id, lost.day, lost.runs, lost.cost) == ("k", "1970-01-01", 1, 1.0)
            assert (lost.prompt_tokens, lost.completion_tokens) == (0, 0)  # nobody knows how many

    asyncio.run(main())


def test_process_that_was_taken_for_dead_and_settles_is_charged_once(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            assert await storage.commit(batch([reserve("k", 1.0)], holder="slow", at_s=0.0)) == [None]
            await storage.commit(batch(holder="living", at_s=60.5))
            await storage.commit(batch(spent=[spent("k", reservation="r0")], holder="slow", at_s=61.0))
            assert sum(one.cost for one in await storage.usage()) == 0.1
            assert sum(one.runs for one in await storage.usage()) == 1
            assert await storage.commit(batch([reserve("k", 0.9, 1)], holder="slow", at_s=62.0)) == [None]

    asyncio.run(main())


def test_reservation_that_another_process_takes_over_is_held_once(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            assert await storage.commit(batch([reserve("k", 1.0)], holder="dead", at_s=0.0)) == [None]
            assert await storage.commit(batch([reserve("k", 1.0)], holder="living", at_s=1.0)) == [None]
            assert await storage.commit(batch([reserve("k", 0.01, 1)], holder="other", at_s=1.0)) == [0.0]
            assert await storage.commit(batch(holder="living", at_s=59.0)) == []
            await storage.commit(batch(holder="other", at_s=61.0))
            assert await storage.usage() == []
            # the process that was only stuck gives nothing back that is no longer its own
            await storage.commit(batch(spent=[spent("k", None, reservation="r0")], holder="dead", at_s=62.0))
            assert await storage.commit(batch([reserve("k", 0.01, 1)], holder="other", at_s=62.0)) == [0.0]
            await storage.commit(batch(spent=[spent("k", reservation="r0")], holder="living", at_s=63.0))
            (used,) = await storage.usage()
            assert (used.runs, used.cost) == (1, 0.1)
            assert await storage.commit(batch([reserve("k", 0.9, 1)], holder="other", at_s=64.0)) == [None]

    asyncio.run(main())


def test_reservation_that_was_lost_is_usage_no_more_once_it_is_taken_over(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            assert await storage.commit(batch([reserve("k", 1.0)], holder="dead", at_s=0.0)) == [None]
            await storage.commit(batch(holder="living", at_s=61.0))
            assert [(one.runs, one.cost) for one in await storage.usage()] == [(1, 1.0)]
            wishes = [reserve("k", 0.5, 1), reserve("k", 1.0)]
            assert await storage.commit(batch(wishes, holder="living", at_s=62.0)) == [0.0, None]
            assert [(one.runs, one.cost) for one in await storage.usage()] == [(0, 0.0)]
            await storage.commit(batch(spent=[spent("k", reservation="r0")], holder="living", at_s=63.0))
            assert sum(one.cost for one in await storage.usage()) == 0.1
            assert sum(one.runs for one in await storage.usage()) == 1

    asyncio.run(main())


def test_batch_that_is_tried_again_is_written_once(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            one = batch(spent=[spent("k")])
            await storage.commit(one)
            await storage.commit(batch(spent=[spent("k")], holder="other"))
            await storage.commit(replace(one, at_s=200.0))  # after so long it may have been taken for dead
            assert [usage.runs for usage in await storage.usage()] == [2]

    asyncio.run(main())


def test_change_of_keys_by_another_process_is_seen_and_one_s_own_is_not(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as here, open_storage(database) as there:
            await here.has_changed()
            await here.add_key(made := key())
            assert not await here.has_changed()
            await there.add_key(key())
            assert await here.has_changed()
            assert not await here.has_changed()
            await there.revoke_key(made.id, at_s=9.0)
            await here.add_key(key())
            assert await here.has_changed()

    asyncio.run(main())


def test_past_run_comes_back_as_it_was_and_only_for_its_key(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            mine, nobody_s = past(0), past(1, key_id=None, first_token_s=None)
            await storage.commit(Batch(holder="h", at_s=0.0, past=[lambda: mine, lambda: nobody_s]))
            await storage.commit(Batch(holder="h", at_s=0.0, past=[lambda: replace(mine, answer="another")]))
            assert await storage.past_run("k", mine.id) == mine
            assert await storage.past_run(None, nobody_s.id) == nobody_s
            assert await storage.past_run(None, mine.id) is None
            assert await storage.past_run("k", nobody_s.id) is None
            (line,) = await storage.past_runs("k", pipeline=None, after=None, most=9)
            assert line == PastLine(**{name: getattr(mine, name) for name in PastLine.__slots__})

    asyncio.run(main())


def test_past_runs_are_listed_newest_first_and_page_by_page(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:
            runs = [past(number, pipeline="mix" if number % 3 else "other") for number in range(6)]
            await storage.commit(Batch(holder="h", at_s=0.0, past=[lambda one=one: one for one in runs]))  # type: ignore[misc]
            names, after = [], None
            while page := await storage.past_runs("k", pipeline=None, after=after, most=2):
                names += [line.id for line in page]
                after = PastCursor(started_at_s=page[-1].started_at_s, id=page[-1].id)
            assert names == [f"run{number}" for number in (5, 4, 3, 2, 1, 0)]
            other = await storage.past_runs("k", pipeline="other", after=None, most=9)
            assert [line.id for line in other] == ["run3", "run0"]

    asyncio.run(main())


def test_past_runs_are_forgotten_by_name_by_age_and_by_size(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:

            async def left() -> list[str]:
                return [line.id for line in await storage.past_runs("k", pipeline=None, after=None, most=99)]

            runs = [past(number) for number in range(8)]
            await storage.commit(Batch(holder="h", at_s=0.0, past=[lambda one=one: one for one in runs]))  # type: ignore[misc]
            await storage.commit(Batch(holder="h", at_s=0.0, past=[lambda: past(9, key_id="other")]))
            assert [await storage.forget_runs("other", "run0"), await storage.forget_runs("k", "run0")] == [0, 1]
            assert await storage.prune_runs(101.0, 10**9) == 1
            assert await left() == ["run7", "run6", "run5", "run4", "run3", "run2"]
            assert await storage.prune_runs(0.0, 500) > 0  # bytes: fewer than all of them take
            assert 0 < len(await left()) < 6
            assert await storage.forget_runs("k", None) > 0
            assert await left() == []
            assert await storage.past_run("k", "run7") is None

    asyncio.run(main())


def test_leases_of_two_processes_never_exceed_a_limit(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:

            async def lease(holder: str, wanted: int, used: int = 0) -> int:
                slots = [SlotAsk(name="k", most=4, used=used, wanted=wanted)]
                return (await storage.lease(LeaseAsk(holder=holder, at_s=time.time(), slots=slots))).slots[0]

            assert [await lease("a", 3), await lease("b", 3)] == [3, 1]
            assert await lease("a", 3, used=3) == 2  # its share; but it may still use three
            assert await lease("b", 3, used=1) == 1
            assert [await lease("a", 2, used=2), await lease("b", 3, used=1)] == [2, 2]
            assert [await lease("a", 0), await lease("b", 4, used=2)] == [0, 4]

    asyncio.run(main())


def test_amounts_per_minute_are_taken_once(database: Database) -> None:
    async def main() -> None:
        async with open_storage(database) as storage:

            async def take(*amounts: float, charge: float = 0.0, extra: float = 0.0) -> RateAnswer:
                rates = [RateAsk(name="k", per_minute=60, burst_s=60, amounts=amounts, charge=charge, extra=extra)]
                return (await storage.lease(LeaseAsk(holder="h", at_s=time.time(), rates=rates))).rates[0]

            first = await take(30, 20, 30, extra=5)
            assert [not wait_s for wait_s in first.waits_s] == [True, True, False] and first.extra == 0
            assert 10 < first.waits_s[2] <= 20
            assert (await take(extra=9)).extra == 5  # half of the ten that are left
            assert (await take(35, charge=-30)).waits_s == [0]
            assert 0 < (await take(1)).waits_s[0] <= 1

    asyncio.run(main())


SPENDER = """
import asyncio, sys
from stairstream.config.databases import read_database
from stairstream.server.storage.opening import open_storage
from stairstream.server.storage.values import Batch, BudgetHold, RunUsage, Spent

async def main(database, name):
    made = 0
    async with open_storage(read_database(database)) as storage:
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
def test_processes_that_begin_together_spend_exactly_the_budget(database: Database) -> None:
    where = database.url if isinstance(database, PostgresAddress) else str(database)
    command = [sys.executable, "-c", SPENDER, where]
    processes = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b", "c")]
    made = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(made) == 50

    async def main() -> None:
        async with open_storage(database) as storage:
            (usage,) = await storage.usage()
            assert (usage.runs, usage.cost) == (50, 1.0)

    asyncio.run(main())
