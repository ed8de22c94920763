"""A server that keeps history, driven by hand: several callers, one database, a clock that is set."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from stairstream.config.schema import parse_config
from stairstream.config.server import ServerConfig
from stairstream.server.access.budgets import Ledger
from stairstream.server.access.gate import Caller, Grant, OpenGate, Reserve
from stairstream.server.access.limits import RunPermits
from stairstream.server.app import make_app
from stairstream.server.history.archive import Archive
from stairstream.server.history.keeping import keep_history
from stairstream.server.http.exchange import Receive, Scope, Send
from stairstream.server.opening import open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.live import LiveRuns
from stairstream.server.storage.sqlite import open_sqlite
from tests.manners import adopt
from tests.server.driving import Client, Got
from tests.server.inline import Inline

CONFIG = """
models:
  p: {backend: scripted, length: 4, first_token_s: 0.5, token_s: 0.25}
  a: {backend: scripted, text: "Blue light scatters most.", first_token_s: 0.25, token_s: 0.25}
  broken: {backend: scripted, length: 4, attempts: 1, fault: {kind: cut, after_tokens: 2}}
pipelines:
  mix: {topology: mixture, proposers: [p, p], aggregator: a, policy: {first_chunk: 2, growth: 2, lead: inf}}
  single: {topology: single, model: a}
  broken: {topology: single, model: broken}
"""


class NamesGate:
    """Everybody is who the header `x-name` says."""

    def __init__(self) -> None:
        self._open = OpenGate(RunPermits(100))

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        return Caller(key_id=headers.get("x-name"))

    def admit(self, caller: Caller, reserve: Reserve) -> AbstractAsyncContextManager[Grant]:
        return self._open.admit(caller, reserve)

    def recall(self, key_id: str | None) -> Caller:
        return Caller(key_id=key_id)

    def readmit(self, caller: Caller, reserve: Reserve, hold: str | None) -> AbstractAsyncContextManager[Grant]:
        return self._open.readmit(caller, reserve, hold)


class HistoryClient(Client):
    """A client with a name that may be changed. Its server's clock is `now_s`."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.now_s = 1000.0

    def serve(self, service: Service, archive: Archive | None) -> None:
        super().__init__(service)
        self.archive = archive
        app = make_app(service, archive=archive)

        async def with_name(scope: Scope, receive: Receive, send: Send) -> None:
            if self.name is not None:
                scope["headers"].append((b"x-name", self.name.encode()))
            await app(scope, receive, send)

        self._app = with_name

    async def ask(self, model: str = "mix", name: str | None = None, **fields: Any) -> str:
        """The id of a run that is over."""
        before, self.name = self.name, name
        run_id = (await self.chat(model, **fields)).headers["x-stairstream-run"]
        self.name = before
        return run_id

    async def list(self, query: str = "") -> Any:
        got = await self.get(f"/v1/history{query}")
        assert got.status == 200, got.body
        return got.json()

    async def delete(self, path: str) -> Got:
        return await self.send("DELETE", path, b"", float("inf"))


@asynccontextmanager
async def client_of(folder: Path, **settings: Any) -> AsyncIterator[HistoryClient]:
    """A client of a server of CONFIG with its database in that folder, in virtual time."""
    client, config = HistoryClient(), parse_config(CONFIG, "test.yaml", {})
    async with open_sqlite(folder / "s.db", Inline()) as storage, open_pipelines(config) as (pipelines, backends):
        adopt(backends.values())
        ledger = Ledger(storage)
        archive = Archive(storage, ledger, ServerConfig(history=True, **settings), lambda: client.now_s)
        live = LiveRuns([keep_history(archive, lambda: client.now_s)])
        catalog = Catalog(config=config, pipelines=pipelines, backends=backends)
        client.serve(Service(catalog=catalog, gate=NamesGate(), runs=live), archive)
        async with ledger.open(), live.serve():
            yield client
