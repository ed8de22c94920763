"""`stairstream init`: chooses the models, then writes the configuration and the schema that its first line names."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stairstream.cli.init.interview import choose_by_questions
from stairstream.cli.init.options import choose_by_options, number_of
from stairstream.cli.init.providers import PROVIDERS
from stairstream.cli.init.writing import SCHEMA_FILE, make_text, unset_variables
from stairstream.cli.schema import schema_text
from stairstream.cli.terminal import printable, tell
from stairstream.config.json_schema import TITLE
from stairstream.core.errors import ConfigError


def init(
    file: Path,
    endpoints: Sequence[str],
    models: Sequence[str],
    key_variables: Sequence[str],
    aggregator: str | None,
    force: bool,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Write a configuration. Nothing that is there is overwritten, unless by force."""
    schema = file.parent / SCHEMA_FILE
    _check_free(file, schema, force)
    if endpoints:
        chosen = choose_by_options(endpoints, models, key_variables, environ)
        number = number_of(aggregator, chosen)
    elif models or key_variables or aggregator:
        raise ConfigError("--endpoint is missing: it says where the models are")
    elif sys.stdin.isatty():
        chosen, number = choose_by_questions(environ)
    else:
        names = ", ".join(PROVIDERS)
        raise ConfigError(f"standard input is no terminal: give --endpoint, an address or one of {names}")
    _write(schema, schema_text(), "w")
    _write(file, make_text(chosen, number, str(file)), "w" if force else "x")
    print(printable(f"wrote {file}, and {schema} for editors"), flush=True)
    for name in unset_variables(chosen, environ):
        tell(f"{name} is not set: export it first")
    tell(f"next: stairstream check -c {file}")


def _check_free(file: Path, schema: Path, force: bool) -> None:
    if file.is_dir():
        raise ConfigError(f"{file}: is a directory; name a file in it")
    if not file.parent.is_dir():
        raise ConfigError(f"{file.parent}: no such directory")
    if force:
        return
    if file.exists() or file.is_symlink():
        raise ConfigError(f"{file}: is there already; name another file, or overwrite it by --force")
    if schema.exists() and not _is_ours(schema):
        raise ConfigError(f"{schema}: is there, and was not made by stairstream; --force overwrites it")


def _is_ours(schema: Path) -> bool:
    """Whether it is the schema of some version of this program, which is made anew."""
    try:
        found = json.loads(schema.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("title") == TITLE


def _write(file: Path, text: str, mode: str) -> None:
    try:
        with file.open(mode, encoding="utf-8") as opened:
            opened.write(text)
    except OSError as exc:
        raise ConfigError(f"{file}: can't be written: {exc.strerror or type(exc).__name__}") from None
