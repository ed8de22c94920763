"""A policy as people write it: a preset's name, some of its six numbers, or `adaptive`; in a file or on the command
line."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from stairstream.config.reading import Describes, Schema, Where, check_keys, choose, mapping, read, show
from stairstream.core.adaptive import Goals
from stairstream.core.policy import PRESETS, Policy

ADAPTIVE = "adaptive"
NUMBERS = tuple(one.name for one in fields(Policy))
NAMES = (*PRESETS, ADAPTIVE)
"""Policies that may be chosen by name."""
NAME = "name"
CUSTOM = "custom"
"""A policy of numbers that has no name."""
_TAKEN = (*NAMES, CUSTOM, "none")
_MAY_BE_INFINITE = ("first_chunk", "lead")
_ADAPTED = ("first_chunk", "growth")
_BASE = "balanced"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """A policy and its name: a preset's, `adaptive`, the one that its section gives it, or `custom`.

    With `goals` the first chunk and growth of `policy` only serve until the models' rates are known.
    """

    policy: Policy = PRESETS[_BASE]
    name: str = _BASE
    goals: Goals | None = None

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "PolicyChoice":
        """From the value of a key `policy`."""
        if isinstance(raw, str):
            return choose_preset(choose(raw, NAMES, where, "a policy"))
        section = mapping(raw, where)
        if ADAPTIVE not in section:
            numbers = {key: one for key, one in section.items() if key != NAME}
            check_keys(numbers, (*NUMBERS, ADAPTIVE, NAME), where)
            return cls(policy=own_policy(numbers, where), name=_read_name(section.get(NAME), where / NAME))
        numbers = {key: one for key, one in section.items() if key != ADAPTIVE}
        check_keys(numbers, (*NUMBERS, ADAPTIVE), where)
        _check_not_adapted(numbers, where)
        goals = read(Goals, section[ADAPTIVE] or {}, where / ADAPTIVE)
        return cls(policy=change_numbers(PRESETS[_BASE], numbers, where), name=ADAPTIVE, goals=goals)

    @classmethod
    def json_schema(cls, describes: Describes) -> Schema:
        """A name, or a mapping of numbers; an adaptive policy chooses two of them itself."""
        numbers: Schema = {name: _number_schema(name, describes) for name in NUMBERS}
        own: Schema = {
            "type": "object",
            "properties": {
                **numbers,
                ADAPTIVE: {"anyOf": [describes.value(Goals), {"type": "null"}]},
                NAME: {"anyOf": [_NAME_SCHEMA, {"type": "null"}]},
            },
            "additionalProperties": False,
            "if": {"required": [ADAPTIVE]},
            "then": {"properties": dict.fromkeys((*_ADAPTED, NAME), False)},
        }
        return {"anyOf": [describes.value(Literal[NAMES]), own]}


def _read_name(raw: object, where: Where) -> str:
    """The name that a policy of numbers is shown by; `custom` if it has none."""
    if raw is None:
        return CUSTOM
    if not isinstance(raw, str) or not raw.strip() or raw in _TAKEN:
        raise where.error(f"must be a text of your own, not {show(raw)}; taken are {', '.join(_TAKEN)}")
    return str(raw)


def choose_preset(name: str) -> PolicyChoice:
    """The preset of that name, or `adaptive` with its own goals."""
    return PolicyChoice(name=name, goals=Goals()) if name == ADAPTIVE else PolicyChoice(policy=PRESETS[name], name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyPaths:
    """The keys that ask for another policy, as errors name them: the preset, and single numbers."""

    preset: Where
    numbers: Where


ARGUMENTS = PolicyPaths(preset=Where(file="policy"), numbers=Where(file="settings"))
REQUEST = PolicyPaths(preset=Where(file="", path="policy"), numbers=Where(file=""))


def read_settings(settings: Iterable[str], where: Where = ARGUMENTS.numbers) -> dict[str, object]:
    """Single numbers, each as NUMBER=VALUE."""
    changes = dict[str, object]()
    for setting in settings:
        key, equals, value = setting.partition("=") if isinstance(setting, str) else ("", "", "")
        if not equals:
            raise where.error(f"must be NUMBER=VALUE, as in first_chunk=16, not {show(setting)}")
        changes[key.strip()] = _plain(value.strip())
    return changes


def override_policy(
    choice: PolicyChoice,
    preset: str | None,
    changes: Mapping[str, object],
    most_read: int | None = None,
    paths: PolicyPaths = ARGUMENTS,
) -> PolicyChoice:
    """The policy, or a preset in place of it, with numbers changed, for agents that read up to `most_read` others."""
    if preset is not None:
        choice = choose_preset(choose(preset, NAMES, paths.preset, "a policy"))
    if not changes:
        return choice
    where = paths.numbers
    check_keys(changes, NUMBERS, where)
    if choice.goals:
        _check_not_adapted(changes, where)
    policy = change_numbers(choice.policy, changes, where)
    if most_read is not None and "quorum" in changes:
        check_quorum(policy, most_read, where / "quorum")
    return PolicyChoice(policy=policy, name=ADAPTIVE if choice.goals else CUSTOM, goals=choice.goals)


def own_policy(numbers: Mapping[str, object], where: Where) -> Policy:
    """A policy of these numbers; the others are those of `balanced`, but a `lead` alone is one of slope 1."""
    base = PRESETS[_BASE]
    return change_numbers(replace(base, slope=1) if "lead" in numbers else base, numbers, where)


def change_numbers(policy: Policy, changes: Mapping[str, object], where: Where) -> Policy:
    """The policy with some of its numbers replaced; ConfigError for one that can't be."""
    check_keys(changes, NUMBERS, where)
    values = asdict(policy) | {key: _number(key, raw, where / key) for key, raw in changes.items()}
    try:
        return Policy(**values)
    except ValueError as exc:
        key, _, problem = str(exc).partition(" ")
        raise (where / key).error(problem) from None


def check_quorum(policy: Policy, most_read: int, where: Where) -> None:
    """An error for a quorum that can never be there."""
    if isinstance(policy.quorum, int) and policy.quorum > most_read:
        raise where.error(f"{policy.quorum} is more than an agent reads here ({most_read})")


def _check_not_adapted(changes: Mapping[str, object], where: Where) -> None:
    for key in _ADAPTED:
        if key in changes:
            raise (where / key).error("the policy is adaptive and chooses it itself; leave one of the two out")


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


_NUMBER_SCHEMAS: dict[str, Schema] = {
    "first_chunk": {"type": "integer", "minimum": 1},
    "growth": {"type": "number", "minimum": 1},
    "quorum": {"type": "integer", "minimum": 1},
    "patience_s": {"type": "number", "minimum": 0},
    "lead": {"type": "number"},
    "slope": {"type": "number", "exclusiveMinimum": 0},
}
"""The finite numbers that Policy takes; a test compares the two."""

_NAME_SCHEMA: Schema = {"type": "string", "pattern": r"\S", "not": {"enum": list(_TAKEN)}}

_INFINITE: tuple[Schema, ...] = (
    {"type": "string", "pattern": "^[iI][nN][fF]$"},
    {"type": "number", "exclusiveMinimum": sys.float_info.max},  # YAML's .inf
)


def _number_schema(name: str, describes: Describes) -> Schema:
    if name == "quorum":
        return {"anyOf": [_NUMBER_SCHEMAS[name], describes.value(Literal["all", "most"])]}
    return {"anyOf": [_NUMBER_SCHEMAS[name], *_INFINITE]} if name in _MAY_BE_INFINITE else _NUMBER_SCHEMAS[name]


def _plain(text: str) -> object:
    """A number where the text is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
