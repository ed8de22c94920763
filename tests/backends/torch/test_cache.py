"""The cache that opens gaps gives what a direct computation gives."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from collections.abc import Sequence  # noqa: E402
from typing import Any  # noqa: E402

from stairstream.backends.torch.attention import Batch  # noqa: E402
from stairstream.backends.torch.model import Model  # noqa: E402
from tests.backends.torch.tiny import Birth, compute_directly, make_network, run_all  # noqa: E402

TEXT = [5, 9, 17, 4, 40, 33, 8, 250, 77, 6, 90, 3]
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 256}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "rope_theta": 1e4,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(make_network(), "tiny")


def assert_close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-4)


def own_logits(network: Any, ids: Sequence[int]) -> Any:
    with torch.inference_mode():
        return network(torch.tensor([list(ids)])).logits[0, -1]


@pytest.mark.parametrize("piece_tokens", [1, 5, 128])
def test_without_insertion_it_equals_the_models_own_forward(network: Any, model: Model, piece_tokens: int) -> None:
    cache = model.new_cache()
    cache.rearrange(TEXT, [None] * len(TEXT))
    assert_close(run_all(model, cache, piece_tokens), own_logits(network, TEXT))
    assert cache.num_exact == len(TEXT)
    cache.append(21)
    assert_close(run_all(model, cache), own_logits(network, [*TEXT, 21]))


def test_the_direct_computation_equals_the_models_own_forward(network: Any) -> None:
    births = [Birth(token=token, position=i, sees={j: j for j in range(i)}) for i, token in enumerate(TEXT)]
    with torch.inference_mode():
        assert_close(compute_directly(network, births), own_logits(network, TEXT))


def test_after_an_insertion_every_token_has_seen_what_it_saw_then(network: Any, model: Model) -> None:
    head, tail, chunk = TEXT[:5], TEXT[5:], [101, 102, 103]
    cache = model.new_cache()
    cache.rearrange(TEXT, [None] * len(TEXT))
    run_all(model, cache)
    kept = [*range(5), None, None, None, *range(5, len(TEXT) - 1), None]
    cache.rearrange([*head, *chunk, *tail], kept)
    found = run_all(model, cache)

    births = [Birth(token=token, position=i, sees={j: j for j in range(i)}) for i, token in enumerate(TEXT)]
    first = len(births)
    for i, token in enumerate(chunk):  # they see the head and each other, nothing behind
        sees = {j: j for j in range(5)} | {first + j: 5 + j for j in range(i)}
        births.append(Birth(token=token, position=5 + i, sees=sees))
    sees = {j: j for j in range(5)} | {first + j: 5 + j for j in range(3)} | {j: j + 3 for j in range(5, len(TEXT) - 1)}
    births.append(Birth(token=TEXT[-1], position=len(TEXT) + 2, sees=sees))
    with torch.inference_mode():
        assert_close(found, compute_directly(network, births))
    assert cache.num_exact == 8
    assert float((found - own_logits(network, [*head, *chunk, *tail])).abs().max()) > 0.01


def test_several_insertions_a_removal_and_own_words_between(network: Any, model: Model) -> None:
    """Two references that grow in turn, one sentence that is replaced, own words in between: entry by entry."""
    cache = model.new_cache()
    births: list[Birth] = []
    order: list[int] = []

    def change(kept: list[int], new: dict[int, int], length: int) -> Any:
        """`kept`: birth numbers that stay, in order; `new`: token by position."""
        nonlocal order
        sources: list[int | None] = []
        olds, ids = iter(kept), []
        order_before = {number: position for position, number in enumerate(order)}
        order = []
        for position in range(length):
            if position in new:
                sources.append(None)
                ids.append(new[position])
                order.append(-1)
            else:
                number = next(olds)
                sources.append(order_before[number])
                ids.append(births[number].token)
                order.append(number)
        cache.rearrange(ids, sources)
        for position in sorted(new):
            sees = {number: at for at, number in enumerate(order[:position])}
            order[position] = len(births)
            births.append(Birth(token=new[position], position=position, sees=sees))
        found = run_all(model, cache, piece_tokens=3)
        with torch.inference_mode():
            assert_close(found, compute_directly(network, births))
        return found

    change([], dict(enumerate(TEXT)), 12)
    # two tokens behind position 3, one behind 7; the last one is computed anew
    change([*range(11)], {4: 60, 5: 61, 10: 62, 14: TEXT[11]}, 15)
    kept = [number for number in order if number not in (8, 9, 15)]  # two go, and the last is computed anew
    change(kept, {6: 63, 9: 64, 10: 65, len(kept) + 3: TEXT[11], len(kept) + 4: 200}, len(kept) + 5)
    change(order[:-1], {len(order) - 1: 201, len(order): 202}, len(order) + 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_keys_that_move_there_and_back_are_as_before(dtype: str) -> None:
    model = Model(make_network().to(getattr(torch, dtype)), "tiny")
    cache = model.new_cache()
    cache.rearrange(TEXT, [None] * len(TEXT))
    run_all(model, cache)
    before = cache._keys_LHND[:, :, : len(TEXT)].clone()
    for shift in (1, 300, 17):
        cache.rearrange([7] * shift + TEXT, [*[None] * shift, *range(len(TEXT))])
        assert not torch.equal(cache._keys_LHND[:, :, : len(TEXT)], before)
        cache.rearrange(TEXT, range(shift, shift + len(TEXT)))
    assert torch.equal(cache._keys_LHND[:, :, : len(TEXT)], before)


@pytest.mark.parametrize("rope", [YARN, LLAMA3, {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}])
def test_every_kind_of_rotary_embedding_is_moved_as_it_would_have_been_computed(rope: dict[str, Any]) -> None:
    model = Model(make_network(rope_parameters=rope), "tiny")
    apart, moved = model.new_cache(), model.new_cache()
    apart.rearrange(TEXT, [None] * len(TEXT))
    expected = run_all(model, apart)
    moved.rearrange(TEXT[:1], [None])
    run_all(model, moved)
    moved.rearrange([9, 9, *TEXT[:1]], [None, None, 0])
    moved.rearrange(TEXT, [2, *[None] * (len(TEXT) - 1)])
    assert_close(run_all(model, moved), expected)


def test_several_in_one_batch_are_each_as_alone(model: Model) -> None:
    texts = [TEXT, TEXT[3:9], TEXT[::-1]]
    alone = []
    for text in texts:
        cache = model.new_cache()
        cache.rearrange(text, [None] * len(text))
        alone.append(run_all(model, cache))
    caches = [model.new_cache() for _ in texts]
    for cache, text in zip(caches, texts, strict=True):
        cache.rearrange(text, [None] * len(text))
    model.run(Batch([caches[0].claim(len(TEXT) - 1), caches[1].claim(2)]), [])
    model.run(Batch([caches[1].claim(3), caches[2].claim(len(TEXT) - 1)]), [])
    together = model.run(Batch([cache.claim(1) for cache in caches]), [0, 1, 2])
    assert_close(together, torch.stack(alone))


def test_a_fork_goes_on_as_its_source_would(network: Any, model: Model) -> None:
    cache = model.new_cache()
    cache.rearrange(TEXT, [None] * len(TEXT))
    run_all(model, cache)
    cache.rearrange([*TEXT[:8], 70, *TEXT[8:]], [*range(8), None, *range(8, len(TEXT))])
    run_all(model, cache)
    fork = cache.fork(cache.num_exact)
    assert fork.ids == [*TEXT[:8], 70]
    fork.append(42)
    assert_close(run_all(model, fork), own_logits(network, [*TEXT[:8], 70, 42]))


def test_buffers_grow_with_what_they_hold(network: Any, model: Model) -> None:
    ids = [(i * 31) % 290 + 3 for i in range(700)]
    cache = model.new_cache()
    cache.rearrange(ids[:200], [None] * 200)
    run_all(model, cache)
    cache.rearrange([7, *ids[:200]], [None, *range(200)])
    cache.rearrange(ids, [*range(1, 201), *[None] * 500])
    assert_close(run_all(model, cache, piece_tokens=128), own_logits(network, ids))


@pytest.mark.parametrize("has_moved", [False, True])
def test_an_insertion_in_a_copy_that_adopts_the_rest_is_as_one_in_place(model: Model, has_moved: bool) -> None:
    here, chunk = model.new_cache(), [101, 102, 103]
    here.rearrange(TEXT, [None] * len(TEXT))
    run_all(model, here)
    size = len(TEXT)
    if has_moved:
        here.rearrange([*TEXT[:2], 70, 71, *TEXT[2:]], [0, 1, None, None, *range(2, size)])
        run_all(model, here)
    ids = list(here.ids)
    apart = here.fork(8)
    apart.rearrange([*ids[:5], *chunk, *ids[5:8]], [*range(5), None, None, None, 5, 6, 7])
    run_all(model, apart)
    apart.rearrange([*apart.ids, *ids[8:]], [*range(11), *[None] * len(ids[8:])])
    apart.adopt(here, {position + 3: position for position in range(8, len(ids) - 1)})
    assert apart.num_missing == 1

    here.rearrange([*ids[:5], *chunk, *ids[5:]], [*range(5), None, None, None, *range(5, len(ids) - 1), None])
    assert apart.ids == here.ids
    assert_close(run_all(model, apart), run_all(model, here))
    assert apart.num_exact == here.num_exact


def test_a_copy_of_a_cache_that_has_grown_moves_as_its_source(model: Model) -> None:
    ids = [(i * 31) % 290 + 3 for i in range(300)]
    cache = model.new_cache()
    cache.rearrange(ids, [None] * 300)
    run_all(model, cache)
    found = []
    for one in (cache.fork(300), cache):
        one.rearrange([9, *ids], [None, *range(299), None])
        found.append(run_all(model, one))
    assert_close(found[0], found[1])
