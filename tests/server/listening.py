"""A server in this process, on a socket of loopback, in front of a fake endpoint that remembers its calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from stairstream.config.schema import parse_config
from stairstream.server.access.gate import OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.app import make_app
from stairstream.server.fake.model import FakeCall, FakeModel
from stairstream.server.fake.server import serve_fake
from stairstream.server.opening import open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.live import LiveRuns
from stairstream.server.serve import bind, make_server, serving
from tests.manners import models_in_manner


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """The server's address, the calls that its endpoint received, and its runs."""

    host: str
    port: int
    calls: list[FakeCall]
    live: LiveRuns
    permits: RunPermits

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"


def make_config(endpoint: str) -> str:
    """A single model and a mixture of three proposers, all at one endpoint."""
    model = f"{{backend: openai, base_url: '{endpoint}', continues: flag, api_key: none, model: %s}}"
    models = "\n".join(f"  {name}: {model % name}" for name in ("p1", "p2", "p3", "m"))
    return f"""
models:
{models}
pipelines:
  single: {{topology: single, model: m}}
  mix: {{topology: mixture, proposers: [p1, p2, p3], aggregator: m, policy: {{first_chunk: 4, growth: 2, lead: inf}}}}
"""


@asynccontextmanager
async def listening_to(*models: FakeModel) -> AsyncIterator[Listening]:
    """Serve the pipelines `single` and `mix` on fake models p1, p2, p3 and m until the block is left."""
    async with serve_fake(models_in_manner(models)) as fake:
        config = parse_config(make_config(fake.base_url), "test.yaml", {})
        live, permits = LiveRuns(), RunPermits(1000)
        with bind("127.0.0.1", 0) as socket:
            async with open_pipelines(config) as (pipelines, backends):
                catalog = Catalog(config=config, pipelines=pipelines, backends=backends)
                service = Service(catalog=catalog, gate=OpenGate(permits), runs=live)
                app = make_app(service)
                async with serving(make_server(app, config.server.limits), socket), live.serve():
                    host, port = socket.getsockname()[:2]
                    yield Listening(host=host, port=port, calls=fake.calls, live=live, permits=permits)
