"""Retention by policy, from a report of `stairstream eval retention`."""

import math
from collections.abc import Mapping
from pathlib import Path

import msgspec

from stairstream.core.errors import ConfigError
from stairstream.core.policy import Policy


class _Row(msgspec.Struct, frozen=True):
    numbers: dict[str, float | int | str] | None
    retention: float | None


class _Report(msgspec.Struct, frozen=True):
    rows: list[_Row]


def read_retention(file: Path) -> dict[Policy, float]:
    """The best retention of each policy over its layouts. Raises ConfigError for a file that is no report."""
    try:
        report = msgspec.json.decode(file.read_bytes(), type=_Report)
        found: dict[Policy, float] = {}
        for row in report.rows:
            if row.numbers is not None and row.retention is not None:
                policy = _policy_of(row.numbers)
                found[policy] = max(row.retention, found.get(policy, -math.inf))
        return found
    except OSError as exc:
        raise ConfigError(f"{file}: {exc.strerror or exc}; `stairstream eval retention` makes retention.json") from exc
    except (msgspec.DecodeError, TypeError, ValueError) as exc:
        raise ConfigError(f"{file}: {exc}; `stairstream eval retention` makes retention.json") from exc


def _policy_of(numbers: Mapping[str, float | int | str]) -> Policy:
    """Infinite numbers are the text "inf" in a report."""
    values = {name: math.inf if value == "inf" else value for name, value in numbers.items()}
    return Policy(**values)  # type: ignore[arg-type]
