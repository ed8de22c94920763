"""What holds for every test: how long it may take before it has failed, and that a busy machine is no failure."""

import hypothesis
import pytest

SLOW_S = 900
"""For slow tests; for others `timeout` in pyproject.toml says it."""

hypothesis.settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any_machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
