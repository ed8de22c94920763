"""Which layers keep what: as much as fits, what is dearest to compute first."""

import itertools
import random

import pytest

pytest.importorskip("torch")

from stairstream.train.memory.costs import Bytes, Costs, HeadCosts, LayerCosts, Operation
from stairstream.train.memory.planning import (
    full_of,
    make_compiled_ladder,
    make_ladder,
    peak,
    plan,
)

ATTENTION, GATE, NORM = ("attention", 0), ("mm", 0), ("pow", 0)


def make_costs(num_layers: int = 4, *, can_offload: bool = False) -> Costs:
    """Of 100 tokens: everything is 10,000 bytes, an input 500."""
    return Costs(
        num_layers=num_layers,
        fixed=1000,
        layer=LayerCosts(
            whole=Bytes(once=1000, token=80, pair=0.1),
            entry=Bytes(token=5),
            work=Bytes(once=1000, token=100, pair=0.1),
            operations=(
                Operation(key=NORM, ms=0.4, size=Bytes(token=90)),
                Operation(key=GATE, ms=4, size=Bytes(token=10)),
                Operation(key=ATTENTION, ms=8, size=Bytes(token=5)),
                Operation(key=("view", 0), ms=0.01, size=Bytes()),
            ),
        ),
        head=HeadCosts(weights=10, width=5, is_tied=True),
        probed_tokens=100,
        can_offload=can_offload,
    )


def test_bytes_go_through_what_was_counted() -> None:
    size = Bytes(once=7, token=3, pair=2)
    counts = [size.at(tokens) for tokens in (4, 8, 16)]
    assert counts == [51, 159, 567]
    assert Bytes.through((4, 8, 16), counts) == size
    assert Bytes.through((4, 8, 16), (5, 5, 5)) == Bytes(once=5)
    assert size + Bytes(token=1) == Bytes(once=7, token=4, pair=2)


def test_a_ladder_keeps_first_what_takes_most_time_per_byte() -> None:
    ladder = make_ladder(make_costs())
    assert [level.kept for level in ladder] == [
        frozenset(),
        frozenset({ATTENTION}),
        frozenset({ATTENTION, GATE}),
        None,  # keeping the norm would need more than keeping everything that a backward pass wants
    ]
    assert [level.size.at(100) for level in ladder] == [500, 1000, 2000, 10_000]
    assert [round(level.ms, 3) for level in ladder] == [12.41, 4.41, 0.41, 0]


def test_inputs_are_moved_to_the_cpu_only_from_a_device_and_as_the_last_resort() -> None:
    ladder = make_ladder(make_costs(can_offload=True))
    assert [level.offloads for level in ladder] == [True, False, False, False, False]
    assert ladder[0].size.at(100) == 0
    assert ladder[0].ms > ladder[1].ms
    assert full_of(ladder) == 1
    assert full_of(make_ladder(make_costs())) == 0
    costs = make_costs(can_offload=True)
    fits_full = peak(costs, [500] * 4, 100, 0)
    assert plan(costs, ladder, 100, 0, fits_full) == (1, 1, 1, 4)
    assert set(plan(costs, ladder, 100, 0, fits_full - 1)[:3]) == {0, 1}


def test_nothing_is_known_of_a_layer_that_was_not_measured() -> None:
    ladder = make_ladder(Costs(num_layers=2))
    assert [level.kept for level in ladder] == [frozenset(), None]


def test_a_compiler_may_keep_shares() -> None:
    ladder = make_compiled_ladder(make_costs())
    assert [level.share for level in ladder] == [0, 0.25, 0.5, 0.75, 1]
    assert [level.size.at(100) for level in ladder] == [500, 2875, 5250, 7625, 10_000]
    assert [level.kept for level in ladder] == [None] * 5  # nothing of ours is between the compiler and the layer


def test_the_peak_is_in_the_head_the_layers_or_after_them() -> None:
    costs = make_costs()
    head = 20 + 12 * 1000 * 5
    assert peak(costs, [1, 2, 3, 4], 100, 1000) == 1000 + 10 + head
    assert peak(costs, [1, 2, 3, 4], 100, 0) == 1000 + 6 + 40 + 12_000
    assert peak(costs, [0] * 4, 0, 0) == 1000 + 40 + 1000
    assert peak(Costs(num_layers=1, head=costs.head), [0], 0, 0) == 120


def test_a_head_without_logits_needs_those_of_some_tokens() -> None:
    head = HeadCosts(weights=10, width=5, at_once=16)
    assert head.pass_bytes(1000) == head.pass_bytes(16) == 8 * 10 + 12 * 16 * 5
    assert head.pass_bytes(4) == 8 * 10 + 12 * 4 * 5


def test_a_plan_fits_and_computes_little_twice() -> None:
    costs = make_costs(3)
    ladder = make_ladder(costs)
    sizes, times = [level.size.at(100) for level in ladder], [level.ms for level in ladder]
    most_raise = max(one - two for one, two in itertools.pairwise(times))
    ways = list(itertools.product(range(len(ladder)), repeat=3))
    before = float("inf")
    for budget in range(5000, 36_000, 250):
        levels = plan(costs, ladder, 100, 20, budget)
        fitting = [way for way in ways if peak(costs, [sizes[level] for level in way], 100, 20) <= budget]
        took = sum(times[level] for level in levels)
        if fitting:
            assert levels in fitting
            assert took <= min(sum(times[level] for level in way) for way in fitting) + most_raise
        else:
            assert levels == (0, 0, 0)
        assert took <= before
        before = took
    assert levels == (3, 3, 3)


def test_longer_rows_have_more_computed_again() -> None:
    costs, dice = make_costs(), random.Random(0)
    ladder = make_ladder(costs)
    for _ in range(20):
        budget = dice.uniform(20_000, 60_000)
        took = [
            sum(ladder[level].ms for level in plan(costs, ladder, tokens, 10, budget)) for tokens in range(20, 300, 20)
        ]
        assert took == sorted(took)
