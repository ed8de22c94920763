"""Command lines as they stand in a page: whether what they call exists, with the options that they give it."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from stairstream.cli.main import app
from tests.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z_0-9]*=.*")


def commands_in(text: str) -> Iterator[list[str]]:
    """The commands of a block of shell, as words: lines that are none give words too, which call nothing of ours."""
    variables: dict[str, list[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a drawing, an answer, or a text over several lines
            continue
        for command in _split(words, "|", "&&", ";", ">"):
            while command and _ASSIGNMENT.fullmatch(command[0]):
                name, _, value = command[0].partition("=")
                variables[f"${name}"] = shlex.split(value)
                command = command[1:]
            if command:
                yield [part for word in command for part in variables.get(word, [word])]


def _split(words: list[str], *separators: str) -> Iterator[list[str]]:
    command: list[str] = []
    for word in words:
        if word in separators:
            yield command
            command = []
        else:
            command.append(word)
    yield command


def problem_of(command: list[str]) -> str | None:
    """What is wrong with a command; None for one that is right, or none of ours."""
    match command:
        case ["stairstream", *arguments]:
            return _stairstream(arguments)
        case ["make", *targets]:
            missing = {one for one in targets if "=" not in one and not one.startswith("-")} - _TARGETS
            return f"no target {missing} in the Makefile" if missing else None
        case ["python", "-m", module, *arguments] if module.startswith("bench."):
            return _script(module, find_module(module), arguments)
        case ["python" | "sh", script, *arguments] if script.startswith(("docs/", "examples/", "bench/")):
            return _script(script, [file for file in [ROOT / script] if file.exists()], arguments)
        case ["pip", "install", *packages]:
            return _extras(packages)
        case _:
            return None


def _stairstream(arguments: list[str]) -> str | None:
    """Parses as the program would, without converting values: a page may say FILE."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        if not arguments or arguments[0] in ("-h", "--help", "-V", "--version"):
            return None
        if command.invoke_without_command and command.params and arguments[0].startswith("-"):
            break  # options of the group itself, as in `bench -c FILE`
        if arguments[0] not in command.commands:
            return f"no command {arguments[0]!r}"
        command, arguments = command.commands[arguments[0]], arguments[1:]
    try:
        _, left, _ = command.make_parser(command.context_class(command)).parse_args(list(arguments))
    except Exception as exc:
        return str(exc)
    return f"{left} is too much" if left else None


def find_module(name: str) -> list[Path]:
    """The files of a module of the repository, or of a package that can be run; none if there is no such."""
    path = ROOT / name.replace(".", "/")
    return (
        sorted(path.glob("*.py"))
        if (path / "__main__.py").exists()
        else [file for file in [path.with_suffix(".py")] if file.exists()]
    )


def _script(name: str, files: list[Path], arguments: list[str]) -> str | None:
    if not files:
        return f"no {name} in the repository"
    source = "".join(file.read_text() for file in files)
    unknown = [one for one in arguments if one.startswith("--") and one.partition("=")[0] not in source]
    return f"{name} has no {unknown}" if unknown else None


def _extras(packages: list[str]) -> str | None:
    named = {
        name for one in packages for found in re.findall(r"^stairstream\[(.*)\]$", one) for name in found.split(",")
    }
    missing = named - set(PROJECT["optional-dependencies"])
    return f"no extra {missing}" if missing else None
