"""A policy as people write it: a preset's name or some of its five numbers, in a file or on the command line."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields

from stairstream.config.reading import Where, check_keys, choose, mapping, show
from stairstream.core.policy import PRESETS, Policy

NUMBERS = tuple(one.name for one in fields(Policy))
_MAY_BE_INFINITE = ("first_chunk", "lead")


def read_policy(raw: object, where: Where, num_proposers: int) -> tuple[Policy, str]:
    """A policy and its name (`custom` for numbers), for a pipeline with that many proposers."""
    if isinstance(raw, str):
        name = choose(raw, PRESETS, where, "a policy")
        return PRESETS[name], name
    return change_policy(Policy(), mapping(raw, where), where, num_proposers), "custom"


def override_policy(
    policy: Policy, name: str, preset: str | None, settings: Iterable[str], num_proposers: int
) -> tuple[Policy, str]:
    """The policy after `--policy PRESET` and `--set NUMBER=VALUE ...`, and its name."""
    if preset is not None:
        name = choose(preset, PRESETS, Where(file="--policy"), "a policy")
        policy = PRESETS[name]
    changes: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise Where(file="--set").error(f"must be NUMBER=VALUE, as in first_chunk=16, not {show(setting)}")
        changes[key.strip()] = _plain(value.strip())
    if not changes:
        return policy, name
    return change_policy(policy, changes, Where(file="--set"), num_proposers), "custom"


def change_policy(policy: Policy, changes: Mapping[str, object], where: Where, num_proposers: int) -> Policy:
    """The policy with some of its numbers replaced; ConfigError for one that can't be."""
    check_keys(changes, NUMBERS, where)
    values = asdict(policy) | {key: _number(key, raw, where / key) for key, raw in changes.items()}
    try:
        changed = Policy(**values)
    except ValueError as exc:
        key, _, problem = str(exc).partition(" ")
        raise (where / key).error(problem) from None
    if isinstance(changed.quorum, int) and changed.quorum > num_proposers and "quorum" in changes:
        raise (where / "quorum").error(f"{changed.quorum} is more than there are proposers ({num_proposers})")
    return changed


def _number(key: str, raw: object, where: Where) -> float | str:
    if key == "quorum":
        if isinstance(raw, str) and raw not in ("all", "most"):
            raise where.error(f"must be a whole number of at least 1, all, or most, not {show(raw)}")
        if isinstance(raw, str):
            return str(raw)
    if isinstance(raw, str) and raw.lower() == "inf" and key in _MAY_BE_INFINITE:
        return math.inf
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise where.error(f"must be a number{' or inf' if key in _MAY_BE_INFINITE else ''}, not {show(raw)}")
    return int(raw) if key == "quorum" and math.isfinite(raw) and raw == int(raw) else raw


def _plain(text: str) -> object:
    """A number where the text is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
