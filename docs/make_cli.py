"""Writes docs/cli.md from the commands themselves: `python docs/make_cli.py`. A test checks that it is current."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from stairstream.cli.main import app

HEAD = """\
# The command line

Made by `python docs/make_cli.py` of [the repository](https://github.com/stairstream/stairstream); every command
says the same with `--help`.
Words of the project are in the [glossary](glossary.md).

Exit codes: 0 it worked; 1 a model, its endpoint or engine failed; 2 the request is wrong; 130 interrupted.
An error is one line on standard error, and says what is wrong, where, and what to do. Output that can't be written
(a full disk, a closed descriptor, a reader that has left) is one too, and exit code 1; what is not text in the encoding
of the locale is refused: questions, arguments and files.
"""


def make_cli() -> str:
    """The whole page, from what is stable about commands across versions of Typer: not its own layout of help."""
    return "\n".join([HEAD, *_describe_all(typer.main.get_command(app))])


def _describe_all(group: Any, prefix: str = "") -> Iterator[str]:
    """Every command of a group, and of the groups in it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if len(command.params) > 1:  # more than --help: the group itself is a command
                yield _describe(f"{prefix}{name}", command)
            yield from _describe_all(command, f"{prefix}{name} ")
        else:
            yield _describe(f"{prefix}{name}", command)


def _describe(name: str, command: Any) -> str:
    rows = ["| | what it is | default |", "|---|---|---|"]
    usage = f"stairstream {name}"
    for param in command.params:
        if param.param_type_name == "argument":
            usage += f" {param.metavar}" if param.required else f" [{param.metavar}]"
            rows.append(_row(param.metavar, param))
        else:
            rows.append(_row(", ".join(param.opts) + ("" if param.is_flag else f" {param.metavar}"), param))
    return f"## {usage}\n\n{command.help}\n\n" + "\n".join(rows) + "\n"


def _row(name: str, param: Any) -> str:
    has_default = param.default is not None and not getattr(param, "is_flag", False) and not param.required
    return f"| `{name}` | {param.help} | {f'`{param.default}`' if has_default else ''} |"


if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(make_cli())
