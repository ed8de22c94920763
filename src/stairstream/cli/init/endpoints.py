"""Asks an endpoint for its models, with the key that an environment variable holds."""

import asyncio
from collections.abc import Mapping, Sequence

from stairstream.backends.http import HttpPool, host_of
from stairstream.backends.listing import Listed, list_models
from stairstream.cli.init.providers import Provider
from stairstream.core.errors import ConfigError, NotAuthorized


def list_of(provider: Provider, key_variable: str | None, environ: Mapping[str, str]) -> Sequence[Listed]:
    """The models that an endpoint lists. Raises a BackendError of one line, which holds no key."""
    key = environ.get(key_variable or "", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the environment variable {key_variable} holds characters that no key has")
    try:
        found = asyncio.run(_list(provider, key))
    except NotAuthorized:
        raise NotAuthorized(f"{host_of(provider.base_url)}: {_why_refused(key_variable, key)}") from None
    return [
        Listed(name=_plain(one.name, provider), context_tokens=one.context_tokens, price=one.price) for one in found
    ]


async def _list(provider: Provider, key: str) -> Sequence[Listed]:
    headers = provider.listing_headers or {"Authorization": "Bearer KEY"}
    pool = HttpPool()
    try:
        with_key = {name: value.replace("KEY", key) for name, value in headers.items()} if key else {}
        return await list_models(provider.base_url, pool, with_key, provider.listing_query)
    finally:
        await pool.aclose()


def _why_refused(key_variable: str | None, key: str) -> str:
    if key_variable is None:
        return "it wants a key; name the environment variable that holds it"
    return f"the key in {key_variable} was not accepted" if key else f"it wants a key; set {key_variable} first"


def _plain(name: str, provider: Provider) -> str:
    return name.removeprefix(provider.listing_prefix)
