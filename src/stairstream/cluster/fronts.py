"""The deployment of the server itself: a replica answers requests as a process of `stairstream serve` does."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from ray import serve

from stairstream.backends.remote.channel import Affinity, Dialler
from stairstream.cluster.calls import HandleCalls
from stairstream.cluster.dialling import dialling
from stairstream.config.schema import Config, parse_config
from stairstream.server.access.limits import RunPermits
from stairstream.server.front import check_access, open_front, serving_runs
from stairstream.server.http.exchange import AsgiApp, Receive, Scope, Send
from stairstream.server.observing.logs import logging_to

WAIT_S = 1.0
"""Time between two tries to reach an engine that is being loaded."""

_log = logging.getLogger(__name__)


class FrontReplica:
    """One copy of the server. `models` has the names of the models of each engine."""

    def __init__(self, text: str, file: str, engines: object, models: Mapping[str, Sequence[str]]) -> None:
        """`engines` are handles by which Serve knows what this deployment needs.

        They have the transport of the process that deployed, so others are made here.
        """
        config, app = parse_config(text, file), serve.get_replica_context().app_name
        calls = {engine: HandleCalls(engine, serve.get_deployment_handle(engine, app)) for engine in models}
        self._app = LifespanApp(_open(config, {name: calls[engine] for engine in models for name in models[engine]}))

    def __serve_build_asgi_app__(self) -> AsgiApp:
        """Serve calls this for the app of the deployment."""
        return self._app

    async def check_health(self) -> None:
        """Raises if the server has ended; Serve then starts another replica."""
        if self._app.failure is not None:
            raise RuntimeError("the server has ended") from self._app.failure


class LifespanApp:
    """An app that is open between the two messages by which a server tells it that it begins and ends."""

    def __init__(self, block: AbstractAsyncContextManager[AsgiApp]) -> None:
        self._block = block
        self._app: AsgiApp | None = None
        self.failure: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            assert self._app is not None, "a server answers after its start"
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self._block as self._app:
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except BaseException as exc:
            self.failure = exc
            if self._app is None:
                await send({"type": "lifespan.startup.failed", "message": str(exc)})
            raise
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def _open(config: Config, calls: Mapping[str, HandleCalls]) -> AsyncIterator[AsgiApp]:
    """The whole API on engines that are reached by these calls. When it ends, runs are waited for."""
    settings = config.server
    copies = settings.replicas
    if copies.count > 1 or copies.most is not None:  # fronts share limits by the database, as workers do
        config = replace(config, server=replace(settings, workers=max(2, settings.workers)))
    check = partial(check_access, settings, settings.host)
    async with AsyncExitStack() as stack:
        stack.enter_context(logging_to())
        dialler = await stack.enter_async_context(dialling(uuid.uuid4().hex, calls))
        for name in calls:
            await _wait_for(dialler, name)
        remote = dict.fromkeys(calls, dialler)
        front = await stack.enter_async_context(open_front(config, check, remote=remote))
        await stack.enter_async_context(serving_runs(front.service))
        try:
            yield front.app
        finally:
            await _drain(front.permits, settings.drain_s)


async def _wait_for(dialler: Dialler, name: str) -> None:
    """Returns as soon as one copy of the model's engine is loaded."""
    while True:
        try:
            (await dialler.dial(name, Affinity())).close()
            return
        except ConnectionError as exc:
            _log.warning("%s; it is waited for", exc)
            await asyncio.sleep(WAIT_S)


async def _drain(permits: RunPermits, drain_s: float) -> None:
    """Serve has waited for requests; runs without a client are still there."""
    permits.close()
    if permits.taken:
        try:
            async with asyncio.timeout(drain_s):
                await permits.wait_empty()
        except TimeoutError:
            _log.warning("stopping: %d runs cut off", permits.taken)
