"""A server of ours on a socket of loopback: its `/v1/messages` is an endpoint like any other."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from stairstream.api import Pipeline
from stairstream.backends.scripted import Script, ScriptedBackend
from stairstream.config.schema import parse_config
from stairstream.server.access.gate import OpenGate
from stairstream.server.access.limits import RunPermits
from stairstream.server.app import make_app
from stairstream.server.opening import open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.live import LiveRuns
from stairstream.server.serve import bind, make_server, serving
from tests.manners import in_manner


@asynccontextmanager
async def serving_own(scripts: Mapping[str, Script]) -> AsyncIterator[str]:
    """Serve a pipeline of one scripted model for each script until the block is left; gives the server's URL."""
    models = "\n".join(f"  {name}: {{backend: scripted, length: 1, attempts: 1, max_tokens: 4000}}" for name in scripts)
    pipelines = "\n".join(f"  {name}: {{topology: single, model: {name}}}" for name in scripts)
    config = parse_config(f"models:\n{models}\npipelines:\n{pipelines}\n", "own.yaml", {})
    live = LiveRuns()
    with bind("127.0.0.1", 0) as socket:
        async with open_pipelines(config) as (opened, backends):
            backends = {
                name: ScriptedBackend(in_manner(script), name, takes=("tools",)) for name, script in scripts.items()
            }
            pipelines_of = {name: Pipeline(one.settings, one.graph, backends, config) for name, one in opened.items()}
            catalog = Catalog(config=config, pipelines=pipelines_of, backends=backends)
            app = make_app(Service(catalog=catalog, gate=OpenGate(RunPermits(1000)), runs=live))
            async with serving(make_server(app, config.server.limits), socket), live.serve():
                host, port = socket.getsockname()[:2]
                yield f"http://{host}:{port}"
