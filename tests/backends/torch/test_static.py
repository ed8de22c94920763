"""Steps of fixed shapes give what a batch of any shape gives, also after insertions and as sequences come and go."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from collections.abc import Iterable, Sequence  # noqa: E402
from typing import Any  # noqa: E402

from stairstream.backends.torch.attention import Batch  # noqa: E402
from stairstream.backends.torch.cache import Cache  # noqa: E402
from stairstream.backends.torch.model import Model  # noqa: E402
from stairstream.backends.torch.static import Recorder, Step, repeat, round_up  # noqa: E402
from stairstream.core.errors import ModelUnusable  # noqa: E402
from tests.backends.torch.tape import Tape  # noqa: E402
from tests.backends.torch.tiny import make_network, run_all  # noqa: E402

PLAIN = Model(make_network(), "plain")


def make_static(record: Recorder = repeat) -> Model:
    model = Model(make_network(), "static")
    model.decode_with(record)
    return model


def begin(model: Model, ids: Iterable[int]) -> Cache:
    """A cache that has these ids."""
    cache, ids = model.new_cache(), list(ids)
    cache.rearrange(ids, [None] * len(ids))
    run_all(model, cache)
    return cache


def insert(model: Model, cache: Cache, at: int, ids: Sequence[int]) -> None:
    """Open a gap and fill it; the last token is missing after that."""
    size = len(cache.ids)
    sources = [*range(at), *[None] * len(ids), *range(at, size - 1), None]
    cache.rearrange([*cache.ids[:at], *ids, *cache.ids[at:]], sources)
    model.run(Batch([cache.claim(len(ids))]), [])


def step(model: Model, caches: Sequence[Cache]) -> Any:
    """One token for each; the likeliest is appended."""
    logits = model.run(Batch([cache.claim(1) for cache in caches]), list(range(len(caches))))
    for cache, logits_V in zip(caches, logits, strict=True):
        cache.append(int(logits_V.argmax()))
    return logits


def play(model: Model) -> tuple[list[Any], list[list[int]]]:
    """Three sequences of different lengths that begin and end at different times, one with two insertions."""
    found = []
    one, two, three = begin(model, range(3, 20)), begin(model, range(40, 45)), begin(model, range(40, 290))
    for cache in (one, two, three):
        cache.append(7)
    found += [step(model, [one]) for _ in range(3)]
    found += [step(model, [two, one]) for _ in range(3)]
    insert(model, one, 6, [101, 102, 103])
    found += [step(model, [one, two]) for _ in range(2)]
    insert(model, one, 9, [104])
    insert(model, two, 2, range(200, 260))
    found += [step(model, [three, one, two]) for _ in range(3)]
    found += [step(model, [three]) for _ in range(6)]  # grows beyond its buffers, and comes down to the first row
    found += [step(model, [two, one, three]) for _ in range(3)]
    four = three.fork(50)
    four.append(9)
    found += [step(model, [four, two]) for _ in range(3)]
    del two
    found += [step(model, [one, four, three]) for _ in range(3)]
    return found, [one.ids, three.ids, four.ids]


def assert_same(model: Model) -> None:
    expected, expected_ids = play(PLAIN)
    found, ids = play(model)
    assert ids == expected_ids
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-4)


def test_steps_equal_the_plain_way_after_gaps_and_as_rows_come_and_go() -> None:
    assert_same(make_static())


def test_recorded_steps_do_so_on_the_same_memory() -> None:
    tape = Tape()
    assert_same(make_static(tape))
    assert tape.num_replays > 2 * tape.num_records


def test_a_step_is_recorded_once_for_so_many_rows_and_entries() -> None:
    tape = Tape()
    model = make_static(tape)
    caches = [begin(model, range(number, number + 20)) for number in (3, 50, 90)]
    for cache in caches:
        cache.append(7)

    def play_and_count() -> int:
        before = tape.num_records
        for some in (caches[:1], caches[1:2], caches[:2], caches, caches[1:]):
            step(model, some)
        return tape.num_records - before

    step(model, caches)  # the buffers grow to four rows, so that all that was recorded is of no use any more
    assert [play_and_count() for _ in range(5)] == [2, 0, 0, 0, 0]  # for one row and for two


def test_prefill_beside_it_and_masks_take_the_plain_way() -> None:
    tape = Tape()
    model = make_static(tape)
    one, two = begin(model, range(3, 9)), model.new_cache()
    one.append(5)
    two.rearrange(range(40, 49), [None] * 9)
    before = tape.num_replays
    logits = model.run(Batch([one.claim(1), two.claim(9)]), [0, 1])
    assert tape.num_replays == before
    plain = begin(PLAIN, range(3, 9))
    plain.append(5)
    torch.testing.assert_close(logits[0], run_all(PLAIN, plain), atol=2e-5, rtol=2e-4)


def test_what_others_left_in_a_row_is_never_seen() -> None:
    model = make_static()
    spoiled = begin(model, range(3, 90))
    spoiled.append(5)
    step(model, [spoiled])
    assert spoiled.row == 0
    spoiled._keys_LHND[:], spoiled._values_LHND[:] = float("nan"), float("nan")
    del spoiled
    cache, plain = begin(model, range(3, 9)), begin(PLAIN, range(3, 9))
    for one in (cache, plain):
        one.append(5)
    torch.testing.assert_close(step(model, [cache]), step(PLAIN, [plain]), atol=2e-5, rtol=2e-4)
    assert cache.row == 0


def test_a_recorder_that_fails_leaves_things_as_they_were() -> None:
    def fail(step: Step) -> Step:
        raise RuntimeError("no graphs here")

    tape = Tape()
    model = make_static(tape)
    with pytest.raises(ModelUnusable, match="no graphs here"):
        model.decode_with(fail)
    before = tape.num_replays
    cache = begin(model, range(3, 9))
    cache.append(5)
    step(model, [cache])
    assert tape.num_replays == before + 1


def test_rounding_up() -> None:
    assert [round_up(number) for number in (1, 2, 3, 4, 5, 256, 257)] == [1, 2, 4, 4, 8, 256, 512]
