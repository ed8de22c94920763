"""How long a test may take before it has failed: `timeout` in pyproject.toml, and for slow ones SLOW_S."""

import pytest

SLOW_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
