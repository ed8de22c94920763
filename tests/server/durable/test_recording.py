"""Entries of a journal as lines, and who writes them: many runs share a commit, and none writes what it has lost."""

import asyncio
import json
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from stairstream.core.events import RunEnded, RunStarted, Thought, Wrote
from stairstream.core.journal import Entry
from stairstream.engine.tasks import working_beside
from stairstream.server.durable import writer
from stairstream.server.durable.contract import JournalledRun, JournalStore, Part
from stairstream.server.durable.recording import Recording, decode_entry, encode_entry
from stairstream.server.durable.writer import EVERY_S, MOST_WAIT_S, GroupWriter
from stairstream.server.errors import StorageFailed
from stairstream.server.wire.events import decode_event_json, encode_event_json
from stairstream.sim.clock import run

RUN = JournalledRun(id="r1", key_id="k", protocol="chat", body=b"{}")
STARTED = RunStarted(at_s=0.0, run_id="r1", agents=("a",), answer="a")


def wrote(start: int, end: int) -> Wrote:
    return Wrote(at_s=0.5, agent="a", start=start, end=end, num_tokens=1, is_estimate=False)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(STARTED),
        Entry(wrote(0, 3), "a\n\u2028"),
        Entry(wrote(0, 3), "ab\r", is_shown=False),
        Entry(wrote(0, 3)),
        Entry(RunEnded(at_s=1.0, reason="stop")),
    ],
)
def test_entries_are_read_as_they_were_written(entry: Entry) -> None:
    line = encode_entry(entry)
    assert line.splitlines() == [line[:-1]]
    assert decode_entry(line) == entry


@pytest.mark.parametrize("written_s", [None, 0.25])
def test_words_are_told_with_all_their_fields(written_s: float | None) -> None:
    words = replace(wrote(0, 2), written_s=written_s)
    thought = Thought(at_s=0.5, agent="a", start=0, end=2, num_tokens=1, written_s=written_s)
    for event, name in ((words, "wrote"), (thought, "thought")):
        told = {"type": name, **asdict(event), "text": 'ü"'}
        if written_s is None:
            del told["written_s"]
        line = encode_event_json(event, lambda _: 'ü"')
        assert json.loads(line) == told and [*json.loads(line)] == [*told]
        assert decode_event_json(line) == (event, 'ü"')


def test_words_of_many_runs_share_a_commit_and_first_words_wait_for_none() -> None:
    commits: list[tuple[float, int]] = []

    async def append(holder: str, number: int, parts: Sequence[Part]) -> Set[str]:
        commits.append((asyncio.get_running_loop().time(), sum(one.num_entries for one in parts)))
        return set()

    async def main() -> None:
        group = GroupWriter(cast(JournalStore, SimpleNamespace(append=append)), "h1")
        shown: list[int] = []
        async with working_beside(group.tend()):
            recordings = [record(group, f"r{number}", shown.append) for number in range(3)]
            await asyncio.sleep(0)
            for one in recordings:  # their first words
                one.write(Entry(wrote(0, 1), "a"))
            await asyncio.sleep(0.25 * EVERY_S)
            for text in "bc":
                for one in recordings:
                    one.write(Entry(wrote(1, 2), text))
                await asyncio.sleep(0.25 * EVERY_S)
            await asyncio.sleep(2 * EVERY_S)
            assert sum(shown) == 12

    run(main())
    assert commits == [(0.0, 3), (0.0, 3), (EVERY_S, 6)]


def test_what_comes_while_words_wait_in_vain_is_not_written_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_WAIT_S", 0.0)
    failing, written, lost = True, list[Part](), list[str]()

    async def append(holder: str, number: int, parts: Sequence[Part]) -> Set[str]:
        await asyncio.sleep(0.05)
        if failing:
            raise StorageFailed("away")
        written.extend(parts)
        return set()

    async def main() -> None:
        nonlocal failing
        group = GroupWriter(cast(JournalStore, SimpleNamespace(append=append)), "h1")
        one = Recording(group, RUN)
        one.begin(lambda number: None, lambda: lost.append("r1"))
        async with working_beside(group.tend()):
            one.write(Entry(STARTED))
            await asyncio.sleep(0.03)
            one.write(Entry(wrote(0, 1), "a"))
            await until(lambda: bool(lost))
            failing = False
            record(group, "r2", lambda number: None)
            await until(lambda: bool(written))
            await asyncio.sleep(0.1)
        assert [part.run for part in written] == ["r2"]
        assert group.take_left() == [("r1", 1)] and group.take_left() == []

    asyncio.run(main())


def test_a_process_that_is_cut_off_from_its_database_stops_its_runs_within_a_bound() -> None:
    call_s = 8.0
    lost_s: list[float] = []

    async def append(holder: str, number: int, parts: Sequence[Part]) -> Set[str]:
        await asyncio.sleep(call_s)  # a network that swallows everything
        raise StorageFailed("away")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        group = GroupWriter(cast(JournalStore, SimpleNamespace(append=append)), "h1")
        one = Recording(group, RUN)
        one.begin(lambda number: None, lambda: lost_s.append(loop.time()))
        async with working_beside(group.tend()):
            one.write(Entry(STARTED))
            await asyncio.sleep(60)

    run(main())
    assert len(lost_s) == 1 and MOST_WAIT_S <= lost_s[0] <= MOST_WAIT_S + call_s


def test_a_run_that_a_process_takes_again_is_lost_to_what_it_was_there_before() -> None:
    async def main() -> None:
        group, lost = GroupWriter(cast(JournalStore, SimpleNamespace()), "h1"), list[int]()
        for token in (1, 2):
            one = Recording(group, replace(RUN, token=token), num_kept=1)
            one.begin(lambda number: None, partial(lost.append, token))
            one.write(Entry(wrote(0, 1), "a"))
        assert lost == [1]

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it did not come to that in 4 s")


def record(group: GroupWriter, name: str, show: Callable[[int], None]) -> Recording:
    one = Recording(group, RUN)
    one.begin(show, lambda: None)
    one.write(Entry(RunStarted(at_s=0.0, run_id=name, agents=("a",), answer="a")))
    return one
