"""One cluster for all tests of this folder that need one."""

from collections.abc import Iterator

import pytest

from tests.cluster.testbed import Testbed, running


@pytest.fixture(scope="session")
def whole_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """The cluster with the application on it."""
    with running(tmp_path_factory.mktemp("cluster")) as bed:
        yield bed


@pytest.fixture
def bed(whole_bed: Testbed) -> Testbed:
    """The cluster, healed from the test before."""
    whole_bed.wait_ready()
    return whole_bed
