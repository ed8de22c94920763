"""Checks whether endpoints can be reached: one connection each and no request, so it costs nothing."""

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

from stairstream.api import Pipeline
from stairstream.config.models import ModelConfig

WAIT_S = 2
"""Timeout of a connection."""

Address = tuple[str, int]


async def find_unreachable(pipelines: Iterable[Pipeline]) -> list[str]:
    """The pipelines that can't answer: no endpoint of their answering model or its fallbacks accepts a connection.

    Proposers are not checked: a run can answer without them.
    """
    needed = {pipeline.settings.name: _addresses_of(pipeline) for pipeline in pipelines}
    addresses = list({address for addresses_of in needed.values() for address in addresses_of if address is not None})
    reached = dict(zip(addresses, await asyncio.gather(*map(_is_reached, addresses)), strict=True))
    return [
        name
        for name, addresses_of in needed.items()
        if not any(address is None or reached[address] for address in addresses_of)
    ]


def _addresses_of(pipeline: Pipeline) -> list[Address | None]:
    """The addresses of the answering model and its fallbacks; None for a model in this process."""
    agent = pipeline.graph.agent(pipeline.graph.answer)
    return [_address_of(pipeline.models[name]) for name in (agent.model, *agent.fallbacks)]


def _address_of(model: ModelConfig) -> Address | None:
    if model.kind.url is None:
        return None
    url = urlsplit(model.kind.url(model.keys))
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


async def _is_reached(address: Address) -> bool:
    try:
        async with asyncio.timeout(WAIT_S):
            _, writer = await asyncio.open_connection(*address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
