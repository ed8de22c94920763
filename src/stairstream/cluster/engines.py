"""The deployment of an engine: a replica loads it, and serves sessions on it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from ray import serve

from stairstream.backends.base import Backend
from stairstream.backends.remote.channel import Channel
from stairstream.backends.remote.host import serve_channel
from stairstream.cluster.hosting import Host, hosting
from stairstream.cluster.living import Living
from stairstream.cluster.trunks import Batch
from stairstream.config.build import open_engines
from stairstream.config.graphs import build_graph
from stairstream.config.schema import Config, parse_config
from stairstream.server.observing.logs import logging_to


class EngineReplica:
    """One copy of an engine, for the models that share it."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, text: str, file: str, models: Sequence[str]
    ) -> None:
        """`text` is the configuration; its environment variables are those of this process."""
        tag = serve.get_replica_context().replica_tag
        self._living = Living(_open(parse_config(text, file), models, tag))
        self._host = await self._living.opened()

    async def attend(self, front: str, number: int) -> AsyncGenerator[str, None]:
        """As `Host.attend`."""
        async with aclosing(self._host.attend(front, number)) as tags:
            async for tag in tags:
                yield tag

    async def carry(self, front: str, numbers: Sequence[int]) -> AsyncGenerator[Batch, None]:
        """As `Host.carry`."""
        async with aclosing(self._host.carry(front, numbers)) as batches:
            async for batch in batches:
                yield batch

    async def push(self, front: str, batch: Batch) -> None:
        """As `Host.push`."""
        self._host.push(front, batch)

    async def check_health(self) -> None:
        """Raises if the engine has ended; Serve then starts another replica."""
        if (failure := self._living.failure) is not None:
            raise RuntimeError("the engine has ended") from failure

    async def __del__(self) -> None:
        """Serve awaits it once no call is in flight."""
        await self._living.aclose()


@asynccontextmanager
async def _open(config: Config, models: Sequence[str], tag: str) -> AsyncIterator[Host]:
    async with AsyncExitStack() as stack:
        stack.enter_context(logging_to())
        backends = await stack.enter_async_context(_open_backends(config, models))

        async def serve_one(channel: Channel) -> None:
            await serve_channel(channel, backends)

        yield await stack.enter_async_context(hosting(tag, serve_one))


@asynccontextmanager
async def _open_backends(config: Config, models: Sequence[str]) -> AsyncIterator[Mapping[str, Backend]]:
    """The models as they are, on one engine: what is configured around them is a front's affair."""
    graphs = [build_graph(config.models, pipeline) for pipeline in config.pipelines.values()]
    async with open_engines(config, graphs) as engines:
        yield {name: await engines.make_backend(config.models[name]) for name in models}
