"""The text of a new configuration: commented YAML, which the reader of configurations takes."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import yaml

from stairstream.backends.listing import Listed
from stairstream.cli.init.providers import Provider
from stairstream.config.schema import parse_config
from stairstream.core.costs import Price
from stairstream.core.urls import split_url

SCHEMA_FILE = "stairstream.schema.json"
DOCUMENTATION = "https://github.com/stairstream/stairstream/blob/main/docs/configuration.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A model to be written: its endpoint, and the environment variable with the key; None: there is no key."""

    provider: Provider
    model: Listed
    key_variable: str | None


def make_text(chosen: Sequence[Chosen], aggregator: int, file: str) -> str:
    """The whole file; the model of number `aggregator` answers. `file` is its name in the commands of its head."""
    names = _unique([_short(one.model.name) for one in chosen])
    parts = [
        _head(file),
        "models:\n" + "\n".join(_models(chosen, names)),
        "pipelines:\n" + _pipelines(names, names[aggregator]),
        *_server(chosen),
    ]
    text = "\n".join(parts)
    parse_config(text, file, dict.fromkeys((one.key_variable or "" for one in chosen), "a key"))
    return text


def _head(file: str) -> str:
    name = shlex.quote(file) if file.isprintable() else "FILE"
    return f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
# Made by `stairstream init`. All keys: {DOCUMENTATION}
#   stairstream check -c {name}    (what each model can, and what a question will cost)
#   stairstream ask -c {name} QUESTION
"""


def _models(chosen: Sequence[Chosen], names: Sequence[str]) -> Iterator[str]:
    """Each model, those of one endpoint one after the other, below what to know of it."""
    for provider, entries in groupby(zip(chosen, names, strict=True), key=lambda entry: entry[0].provider):
        yield f"  # {provider.title}" + (f"\n  # {provider.note}" if provider.note else "")
        for one, name in entries:
            yield f"  {_scalar(name)}:\n" + "".join(f"    {line}\n" for line in _keys(one))


def _keys(one: Chosen) -> Iterator[str]:
    yield "backend: openai"
    yield f"base_url: {_scalar(one.provider.base_url)}"
    yield f"model: {_scalar(one.model.name)}"
    if one.key_variable:
        yield f'api_key: "${{{one.key_variable}}}"  # an environment variable; a key does not belong in a file'
    if one.model.context_tokens:
        yield f"context_tokens: {one.model.context_tokens}"
    if one.model.price:
        yield f"price: {{{_price(one.model.price)}}}  # per million tokens"
    yield "# max_tokens: 1024"
    yield "# temperature: 0.7"
    yield "# reasoning: effort  # for a model that thinks: effort, template or always"


def _price(price: Price) -> str:
    amounts = {name: getattr(price, name) for name in ("prompt", "completion", "cached", "cache_write")}
    return ", ".join(
        f"{name}: {amount:.6f}".rstrip("0").rstrip(".") for name, amount in amounts.items() if amount is not None
    )


def _pipelines(names: Sequence[str], aggregator: str) -> str:
    if len(names) == 1:
        says = "Three samples of one model, which it combines itself while they are still being written."
        keys = ["topology: self_mixture", f"model: {_scalar(aggregator)}", "samples: 3"]
    else:
        says = "All models answer at once; the aggregator reads them while they write, and gives the answer."
        proposers = ", ".join(map(_scalar, names))
        keys = ["topology: mixture", f"proposers: [{proposers}]", f"aggregator: {_scalar(aggregator)}"]
    keys += [
        "policy: balanced  # or careful, cheap, paper, wait, adaptive, or numbers of your own",
        "# deadline_s: 60",
        "# max_cost: 0.05  # in the money of the prices",
    ]
    single = ["topology: single", f"model: {_scalar(aggregator)}"]
    return f"  # {says}\n  mix:\n{_indent(keys)}  # The same model alone, to compare.\n  single:\n{_indent(single)}"


def _indent(lines: Iterable[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)


def _server(chosen: Sequence[Chosen]) -> Iterator[str]:
    """A port of its own for `stairstream serve`, where an endpoint has the usual one."""
    for one in chosen:
        parts = split_url(one.provider.base_url)
        if parts and parts.hostname in ("127.0.0.1", "localhost", "::1") and parts.port == 8080:
            yield f"server:\n  port: 8081  # {one.provider.title} has 8080\n"
            return


def _short(model: str) -> str:
    """A name for the file, of a model's name at its endpoint: `qwen3-8b` of `qwen/qwen3-8b`."""
    return (
        re.sub(r"[^\w.]+", "-", model.rstrip("/").rpartition("/")[2].removesuffix(".gguf").lower()).strip("-")
        or "model"
    )


def _unique(names: Iterable[str]) -> list[str]:
    """The names, with numbers after those that are there twice."""
    found: dict[str, None] = {}
    for name in names:
        number, one = 2, name
        while one in found:
            number, one = number + 1, f"{name}-{number}"
        found[one] = None
    return list(found)


def _scalar(text: str) -> str:
    """The text as YAML has it, in quotes only where it needs them."""
    is_plain = re.fullmatch(r"[\w./:@+-]+", text, re.ASCII) and not re.search(r":$|^[-:@]", text)
    return text if is_plain and yaml.safe_load(text) == text else json.dumps(text)


def unset_variables(chosen: Iterable[Chosen], environ: Mapping[str, str]) -> list[str]:
    """Environment variables that the file needs and that are not set."""
    needed = dict.fromkeys(one.key_variable for one in chosen if one.key_variable)
    return [name for name in needed if not environ.get(name)]
