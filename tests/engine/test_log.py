"""A log: append-only, many readers, closed once."""

from hypothesis import given
from hypothesis import strategies as st

from stairstream.core.session import Delta
from stairstream.engine.log import Log


@given(st.lists(st.text(min_size=1, max_size=4), max_size=20), st.data())
def test_text_by_offsets_is_the_slice_of_the_whole(parts: list[str], data: st.DataObject) -> None:
    log = Log("a")
    for part in parts:
        log.append(Delta(part))
    whole = "".join(parts)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    assert log.text(start, end) == whole[start:end]
    assert log.text() == whole
    assert len(log) == len(whole)


def test_between_gives_ids_only_when_every_delta_has_them() -> None:
    log = Log("a")
    log.append(Delta("x", ids=(1,)))
    log.append(Delta("yz", num_tokens=2, ids=(2, 3)))
    assert log.between(0, 2) == ("xyz", (1, 2, 3))
    log.append(Delta("!"))
    assert log.between(1, 3) == ("yz!", None)


def test_watch_calls_once_at_its_mark_or_at_the_end() -> None:
    log, calls = Log("a"), []
    log.watch(2, lambda: calls.append("two"))
    log.watch(9, lambda: calls.append("nine"))
    log.append(Delta("x"))
    assert calls == []
    log.append(Delta("y"))
    log.append(Delta("z"))
    assert calls == ["two"]
    log.close()
    log.close()
    assert calls == ["two", "nine"]
