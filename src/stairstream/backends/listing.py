"""The models that an OpenAI-compatible endpoint lists."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from stairstream.backends.bodies import BadBody, read_body
from stairstream.backends.http import NETWORK_ERRORS, HttpPool, check_url, connection_error, host_of, tidy
from stairstream.backends.statuses import read_message, status_error
from stairstream.core.costs import Price
from stairstream.core.errors import BackendError, ConnectionFailed, MalformedAnswer, NotServed

LISTING_S = 10.0
"""Deadline of a listing, from the connection to its last byte."""

_MOST_BYTES = 16 * 1024 * 1024
_PER_TOKEN = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A model as its endpoint lists it. None: the endpoint does not say."""

    name: str
    context_tokens: int | None = None
    price: Price | None = None


class _Entry(msgspec.Struct):
    """An entry of the list; vLLM calls the context window `max_model_len`, OpenRouter `context_length`."""

    id: str
    context_length: object = None
    max_model_len: object = None
    pricing: object = None


class _List(msgspec.Struct):
    data: list[_Entry]


async def list_models(base_url: str, pool: HttpPool, headers: Mapping[str, str], query: str = "") -> list[Listed]:
    """The models of an endpoint in its own order. Raises a BackendError of one line; `headers` may hold its key."""
    where = host_of(check_url(base_url))
    url = f"{check_url(base_url)}/models{query}"
    secrets = [value.removeprefix("Bearer ") for value in headers.values()]
    try:
        async with (
            asyncio.timeout(LISTING_S),
            pool.client().get(url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200:
                message = tidy(await read_message(response), secrets)
                raise _refused(response.status, message, where, response.headers)
            body = await read_body(response, _MOST_BYTES)
    except TimeoutError:
        raise ConnectionFailed(f"{where}: no list of models within {LISTING_S:g} s") from None
    except (*NETWORK_ERRORS, BadBody) as exc:
        raise connection_error(exc, where) from exc
    return _read(body, where)


def _refused(status: int, message: str, where: str, headers: Mapping[str, str]) -> BackendError:
    if status in (404, 405):
        return NotServed(f"{where}: it lists no models ({status}); check the address, which often ends in /v1")
    return status_error(status, message, where, headers)


def _read(body: bytes, where: str) -> list[Listed]:
    try:
        found = msgspec.json.decode(body, type=_List | list[_Entry])  # Together sends the bare list
    except msgspec.DecodeError:
        problem = "what it sent is no list of models; check the address, which often ends in /v1"
        raise MalformedAnswer(f"{where}: {problem}") from None
    entries = found.data if isinstance(found, _List) else found
    return [
        Listed(name=one.id, context_tokens=_whole(one.context_length or one.max_model_len), price=_price(one.pricing))
        for one in entries
        if one.id.strip() and one.id.isprintable()
    ]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _price(pricing: object) -> Price | None:
    """OpenRouter's: money per token, as texts; a router's own models have a price of -1, which is none."""
    if not isinstance(pricing, dict):
        return None
    prompt, completion = _money(pricing.get("prompt")), _money(pricing.get("completion"))
    if prompt is None or completion is None:
        return None
    cached, cache_write = _money(pricing.get("input_cache_read")), _money(pricing.get("input_cache_write"))
    return Price(prompt=prompt, completion=completion, cached=cached, cache_write=cache_write or None)


def _money(value: object) -> float | None:
    """Money per million tokens."""
    try:
        amount = float(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        return None
    return round(amount * _PER_TOKEN, 6) if 0 <= amount < 1 else None
