"""What holds for every test: how long it may take before it has failed, and that a busy machine is no failure."""

import os
from collections.abc import Iterator

import hypothesis
import pytest

from stairstream.backends.scripted import ONE_BY_ONE, Manner
from stairstream.config import rates
from tests.manners import ODD, odd_one_for, using
from tests.server.postgres import Postgres, running_postgres

SLOW_S = 900
"""For slow tests; for others `timeout` in pyproject.toml says it."""

hypothesis.settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(  # for bench/mutation.py: whether a test fails, not the least example
    "mutants", parent=hypothesis.settings.get_profile("any_machine"), phases=[hypothesis.Phase.generate], database=None
)
hypothesis.settings.load_profile("any_machine")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    test = metafunc.definition
    if test.get_closest_marker("manners") and not test.get_closest_marker("one_by_one"):
        odd = odd_one_for(test.name)
        metafunc.parametrize("manner", [ONE_BY_ONE, ODD[odd]], ids=["one by one", odd], indirect=True)


@pytest.fixture(autouse=True)
def manner(request: pytest.FixtureRequest) -> Iterator[Manner]:
    """How scripted models send their tokens in this test; see `tests/manners.py`."""
    chosen: Manner = getattr(request, "param", ONE_BY_ONE)
    with using(chosen):
        yield chosen


@pytest.fixture(autouse=True)
def own_rates(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one test's runs have shown of the speed of models changes no other test, and no file of the user's."""
    usual = rates.usual_file
    own = tmp_path_factory.getbasetemp() / "rates" / f"{abs(hash(request.node.nodeid))}.json"
    monkeypatch.setattr(rates, "usual_file", lambda: usual() if "STAIRSTREAM_CACHE" in os.environ else own)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, which is started by the first test that asks for it. A test that stops it starts it again."""
    with running_postgres() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
