"""A YAML file as plain values: duplicate keys are errors, and `${NAME}` is replaced after parsing."""

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from stairstream.core.errors import ConfigError


class FromEnvironment(str):
    """A text that holds the value of an environment variable: never shown."""

    def __repr__(self) -> str:
        return "(from the environment)"


def load_yaml(file: Path, environ: Mapping[str, str] = os.environ) -> object:
    """The content of a file; every way in which it can't be read is a ConfigError of one line."""
    return parse_yaml(read_text(file), str(file), environ)


def read_text(file: Path) -> str:
    """The text of a file; ConfigError, of one line, if it can't be read."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: is a directory; name a YAML file in it") from None
    except OSError as exc:
        raise ConfigError(f"{file}: can't be read: {exc.strerror or type(exc).__name__}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file}: is not UTF-8 text (byte {exc.start})") from None


def parse_yaml(text: str, file: str, environ: Mapping[str, str]) -> object:
    """As load_yaml, from a text; `file` is the name for errors."""
    try:
        return _fill(_parse(text, file), file, "", environ)
    except RecursionError:
        raise ConfigError(f"{file}: is nested too deeply") from None


def variables_of(text: str, file: str) -> tuple[str, ...]:
    """The environment variables that the values of a file refer to, each once."""
    names = _VARIABLE.findall(str(_parse(text, file)))
    return tuple(dict.fromkeys(names))


def _parse(text: str, file: str) -> object:
    """Plain values as they stand in the text."""
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader: makes plain values only
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ConfigError(f"{where}: not valid YAML: {_one_line(exc.problem or exc.context or 'unreadable')}") from None
    except yaml.YAMLError as exc:
        raise ConfigError(f"{file}: not valid YAML: {_one_line(str(exc))}") from None
    except RecursionError:
        raise ConfigError(f"{file}: is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    """The safe loader, with two keys of one name an error; plain YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is there twice", problem_mark=key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def _fill(value: object, file: str, path: str, environ: Mapping[str, str]) -> object:
    """The value with every `${NAME}` in its texts replaced."""
    match value:
        case str():
            return _fill_text(value, file, path, environ)
        case dict():
            return {key: _fill(one, file, f"{path}.{key}" if path else str(key), environ) for key, one in value.items()}
        case list():
            return [_fill(one, file, f"{path}[{number}]", environ) for number, one in enumerate(value)]
        case _:
            return value


def _fill_text(text: str, file: str, path: str, environ: Mapping[str, str]) -> str:
    if not _VARIABLE.search(text):
        return text
    for name in _VARIABLE.findall(text):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(f"{file}: {path}: '${{{name}}}' does not name an environment variable")
        if name not in environ:
            raise ConfigError(f"{file}: {path}: the environment variable {name} is not set")
    return FromEnvironment(_VARIABLE.sub(lambda found: environ[found[1]], text))


def _one_line(text: str) -> str:
    return " ".join(text.split())
