"""Arguments of the Python API: one of a wrong type is an error of one line that names it."""

from stairstream.core.errors import ConfigError


def check_type(argument: str, given: object, kinds: type | tuple[type, ...], wanted: str) -> None:
    """Raises ConfigError for a value that is of none of these types; `wanted` says in words what to give."""
    if not isinstance(given, kinds):
        raise ConfigError(f"{argument}: is {name_type(given)}; give {wanted}")


def name_type(given: object) -> str:
    """The type of a value as it may stand in an error: never the value, which may be private, or large."""
    return "None" if given is None else f"of the type {type(given).__name__}"
