"""Whether the places of models can be reached at all: a connection each, no request, so it costs nothing."""

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

from stairstream.api import Pipeline
from stairstream.config.models import ModelConfig

WAIT_S = 2
"""How long a place may take to let us in."""

Place = tuple[str, int]


async def find_unreachable(pipelines: Iterable[Pipeline]) -> list[str]:
    """The pipelines that can't answer: neither the place of their answering model nor those of its fallbacks let us in.

    Proposers do not count, for an answer does without them.
    """
    wanted = {pipeline.settings.name: _places_of(pipeline) for pipeline in pipelines}
    places = list({place for ways in wanted.values() for place in ways if place is not None})
    reached = dict(zip(places, await asyncio.gather(*map(_is_reached, places)), strict=True))
    return [name for name, ways in wanted.items() if not any(place is None or reached[place] for place in ways)]


def _places_of(pipeline: Pipeline) -> list[Place | None]:
    """Where the answering model and its fallbacks are; None: in this process."""
    agent = pipeline.graph.agent(pipeline.graph.answer)
    return [_place_of(pipeline.models[name]) for name in (agent.model, *agent.fallbacks)]


def _place_of(model: ModelConfig) -> Place | None:
    if model.kind.url is None:
        return None
    url = urlsplit(model.kind.url(model.keys))
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


async def _is_reached(place: Place) -> bool:
    try:
        async with asyncio.timeout(WAIT_S):
            _, writer = await asyncio.open_connection(*place)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
