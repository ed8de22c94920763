"""Writes the pages of docs/reference that are made of types: `python docs/make_reference.py`. A test checks that they
are current.

configuration.md is the JSON Schema of the configuration, http.md the OpenAPI document of the server; what stands in
their last columns is in the docstrings of the types and in the tables of docs/configuration.md.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from stairstream.config.json_schema import make_schema
from stairstream.config.schema import DEFAULT, parse_config
from stairstream.server.access.gate import OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.app import make_app
from stairstream.server.observing.health import make_health_routes
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.live import LiveRuns

FOLDER = Path(__file__).parent / "reference"
Json = Mapping[str, Any]

CONFIGURATION = """\
# Keys of the configuration

Every key of a configuration file with its type, its limits and its default.
[configuration.md](../configuration.md) explains them, with examples. Made by `python docs/make_reference.py` of
[the repository](https://github.com/stairstream/stairstream) from the types that read the file.

Any text may hold `${NAME}`, for the environment variable of that name. A key that may be left out may be empty too.
"""
HTTP = """\
# Operations and shapes

Every operation of the server and every shape of its bodies. [api.md](../api.md) explains them, with examples. Made by
`python docs/make_reference.py` of [the repository](https://github.com/stairstream/stairstream) from the OpenAPI
document, which a running server gives as `/openapi.json`.

A field in **bold** is required. Where the server has keys, every operation but the health checks takes one, as
`Authorization: Bearer KEY` or `x-api-key: KEY`.
"""


def make_configuration() -> str:
    """The page of the configuration's keys."""
    schema = make_schema()
    definitions = schema["$defs"]
    shapes = _Shapes("key", {name: _anchor(name) for name in definitions if name != "environment"})
    parts = [CONFIGURATION, "## models and pipelines\n"]
    for name in ("models", "pipelines"):
        (chooser,) = schema["properties"][name]["additionalProperties"]["properties"]
        kinds = (one for one in definitions if one.startswith(f"{chooser}."))
        text = f"`{name}` maps names to entries, whose keys depend on their `{chooser}`:\n{shapes.links(kinds)}."
        parts.append(fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n")
    for name in sorted(shapes.anchors, key=lambda name: ("." not in name, name != "ServerConfig", name)):
        parts.append(shapes.section(name, definitions[name]))
    return "\n".join(parts)


def make_http() -> str:
    """The page of the server's operations and shapes."""
    document = make_openapi()
    schemas = document["components"]["schemas"]
    shapes = _Shapes("field", {name: _anchor(name) for name in schemas})
    parts = [HTTP, "## Operations\n"]
    for path, methods in document["paths"].items():
        parts += [_operation(f"{method.upper()} {path}", one, shapes) for method, one in methods.items()]
    parts.append("## Shapes\n")
    parts += [shapes.section(name, schemas[name]) for name in sorted(schemas)]
    return "\n".join(parts)


def make_openapi() -> Json:
    """The document of a server with the built-in configuration, which is that of any other but for its limits."""
    catalog = Catalog(config=parse_config(DEFAULT, "built-in", {}), pipelines={}, backends={})
    service = Service(catalog=catalog, gate=OpenGate(RunPermits(1)), runs=LiveRuns())
    app, sent = make_app(service, more_routes=make_health_routes(lambda: False)), b""

    async def receive() -> Json:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Json) -> None:
        nonlocal sent
        sent += message.get("body", b"")

    scope = {"type": "http", "method": "GET", "path": "/openapi.json", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    return json.loads(sent)


def _operation(title: str, one: Json, shapes: "_Shapes") -> str:
    lines = [f"### {title}\n", f"{one['summary']}\n"]
    if taken := one.get("parameters"):
        lines += ["| parameter | in | type | meaning |", "|---|---|---|---|"]
        lines += [
            f"| {_name(p['name'], p.get('required', False))} | {p['in']} | {shapes.type_of(p['schema'])} "
            f"| {_cell(p['description'])} |"
            for p in taken
        ]
        lines.append("")
    if body := one.get("requestBody"):
        lines.append(f"Takes {shapes.type_of(body['content']['application/json']['schema'])}.\n")
    lines += ["| status | body | meaning |", "|---|---|---|"]
    for status, answer in one["responses"].items():
        bodies = [_content(kind, what, shapes) for kind, what in answer.get("content", {}).items()]
        lines.append(
            f"| {status} | {'<br>'.join(bodies)} | {_cell(answer['description']) if status != '200' else ''} |"
        )
    return "\n".join([*lines, ""])


def _content(kind: str, what: Json, shapes: "_Shapes") -> str:
    if "itemSchema" in what:
        return f"`{kind}`: {_cell(what['itemSchema']['description'].removeprefix('Server-sent events; '))}"
    return shapes.type_of(what["schema"]) if kind == "application/json" else f"`{kind}`"


@dataclass(frozen=True, slots=True)
class _Shapes:
    """JSON Schemas as tables that link to each other. `word` is what their properties are called."""

    word: str
    anchors: Mapping[str, str]

    def section(self, name: str, schema: Json) -> str:
        """A heading, and the table of the shape's properties or, of another kind of value, its type."""
        said = fill(_cell(schema.get("description", "")), 120, break_long_words=False, break_on_hyphens=False) + "\n"
        title = f"{'##' if self.word == 'key' else '###'} {_title(name)}\n"
        if "properties" not in schema:
            return "\n".join([title, said, f"Type: {self.type_of(schema)}.\n"])
        rows = [f"| {self.word} | type | default | meaning |", "|---|---|---|---|", *self._rows(schema)]
        return "\n".join([title, said, *rows, ""])

    def _rows(self, schema: Json) -> Iterator[str]:
        required = schema.get("required", ())
        for name, one in schema["properties"].items():
            default = one.get("default")
            shown = f"`{json.dumps(default)}`" if default is not None else ""
            meaning = _cell(one.get("description", ""))
            yield f"| {_name(name, name in required)} | {self.type_of(one)} | {shown} | {meaning} |"

    def type_of(self, schema: Json) -> str:
        """A schema in a few words; null is left out, as everything optional may be null."""
        match schema:
            case {"$ref": str() as ref}:
                return self.links([ref.rpartition("/")[2]])
            case {"enum": list() as words}:
                return _or(f"`{word}`" for word in words)
            case {"const": word}:
                return f"`{word}`"
            case {"anyOf": list() as options}:
                return _or(self.type_of(one) for one in options if not _is_left_out(one))
            case {"type": list() as kinds}:
                return _or(self.type_of({**schema, "type": kind}) for kind in kinds if kind != "null")
            case {"type": "array", "items": items}:
                return f"list of {self.type_of(items)}"
            case {"type": "object", "additionalProperties": dict() as value}:
                return f"mapping to {self.type_of(value)}"
            case {"type": "object", "properties": dict() as inner}:
                return f"mapping with {', '.join(f'`{name}`' for name in inner)}"
            case {"type": str() as kind}:
                return f"{_TYPES[kind]}{_limits(schema)}"
            case _:
                return "anything"

    def links(self, names: Iterable[str]) -> str:
        """Links to the sections of shapes."""
        return ", ".join(f"[{name.rpartition('.')[2]}](#{self.anchors[name]})" for name in names)


_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "object": "mapping",
    "array": "list",
    "null": "nothing",
}


def _is_left_out(schema: Json) -> bool:
    return schema.get("type") == "null" or schema.get("$ref") == "#/$defs/environment"


def _limits(schema: Json) -> str:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    found = [f"{word} {schema[key]:g}" for key, word in words.items() if key in schema and schema[key] < 1e300]
    return f" {' '.join(found)}" if found else ""


def _or(words: Iterable[str]) -> str:
    found = list(dict.fromkeys(words))
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} or {found[-1]}" if found else "nothing"


def _name(name: str, is_required: bool) -> str:
    return f"**`{name}`**" if is_required else f"`{name}`"


def _cell(text: str) -> str:
    """Text within a table: links of docs/configuration.md are not in it, and nothing may look like HTML."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<")


def _title(name: str) -> str:
    """The heading of a shape: the section of the file that it describes, if it is one, else the type's name."""
    return "server" if name == "ServerConfig" else name.replace(".", ": ")


def _anchor(name: str) -> str:
    """The anchor of its heading, as the site's and GitHub's renderers make it."""
    return _title(name).lower().replace(": ", "-")


PAGES: Mapping[str, Callable[[], str]] = {"configuration.md": make_configuration, "http.md": make_http}


if __name__ == "__main__":
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make())
