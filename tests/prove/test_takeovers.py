"""Durable runs are continued exactly, wherever their holders die; and a bug in that is found."""

import pytest

from stairstream.sim.prove.takeover_rules import takeover_violations
from stairstream.sim.prove.takeovers import draw_deaths, survive
from tests.prove.bugs import Bug
from tests.prove.planting import planted

BUGS = (
    Bug(
        name="a step that had ended is made again",
        module="stairstream.engine.progress",
        old="is_rewound=past.is_rewound)",
        new="is_rewound=True)",
        seed=168,
    ),
    Bug(
        name="calls that were lost cost nothing",
        module="stairstream.engine.resuming",
        old="completion_tokens=completion_tokens,",
        new="completion_tokens=0,",
        seed=0,
    ),
    Bug(
        name="words are shown before they are kept",
        module="stairstream.engine.write_ahead",
        old="            self._journal.write(entry)\n",
        new="            self._log.append(entry.event)\n            self._journal.write(entry)\n",
        seed=0,
    ),
    Bug(
        name="paced words are put back twice",
        module="stairstream.core.journal",
        old="return bool(self.text) or not isinstance(self.event, Wrote | Thought)",
        new="return self.is_shown",
        seed=10,
    ),
)


def found(seeds: range) -> list[str]:
    return [f"{seed}: {line}" for seed in seeds for line in takeover_violations(survive(draw_deaths(seed)))]


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 3000), marks=pytest.mark.slow)], ids=str)
def test_an_answer_survives_its_holders(seeds: range) -> None:
    assert found(seeds) == []


def test_a_takeover_is_the_same_each_time() -> None:
    for seed in range(5):
        deaths = draw_deaths(seed)
        one, other = survive(deaths), survive(deaths)
        assert one.shown[1:] == other.shown[1:]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    seeds = range(bug.seed, bug.seed + 1)
    assert found(seeds) == []
    with planted(bug):
        assert found(seeds) != []
