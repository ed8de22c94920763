"""The API of a configuration as one ASGI app with its guards, everything open that its answers need.

It knows neither sockets nor signals: a process of ours serves it (`serve`), or another server does.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stairstream.backends.remote.channel import Dialler
from stairstream.config.build import Loading
from stairstream.config.schema import Config
from stairstream.config.server import ServerConfig
from stairstream.core.errors import ConfigError
from stairstream.engine.tasks import working_beside
from stairstream.server.access.limits import RunPermits
from stairstream.server.access.tally import Tally
from stairstream.server.app import make_app
from stairstream.server.garbage import collect_at_rest, collecting_young
from stairstream.server.history.keeping import keep_history
from stairstream.server.http.exchange import AsgiApp
from stairstream.server.http.guards import guard, is_loopback
from stairstream.server.http.watching import Watched
from stairstream.server.observing.health import make_health_routes, none_unreachable
from stairstream.server.observing.logs import log_request, log_runs, log_waits
from stairstream.server.observing.metrics import Metrics, make_metrics_route
from stairstream.server.observing.reaching import find_unreachable
from stairstream.server.observing.traces import Parented, open_tracer, trace_runs
from stairstream.server.opening import Access, open_access, open_journals, open_pipelines
from stairstream.server.runs.answering import Service
from stairstream.server.runs.catalog import ApiLimits, Catalog
from stairstream.server.runs.finished import Observer
from stairstream.server.runs.live import LiveRuns
from stairstream.server.runs.taking_over import take_over

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """An API whose pipelines and database are open; it answers while `serving_runs` is open too."""

    app: AsgiApp
    access: Access
    permits: RunPermits
    service: Service
    metrics: Metrics


@asynccontextmanager
async def open_front(
    config: Config,
    check: Callable[[Access], None],
    loading: Loading = nullcontext,
    *,
    shows_metrics: bool = True,
    remote: Mapping[str, Dialler] | None = None,
    tally: Tally | None = None,
) -> AsyncIterator[Front]:
    """Open everything that answers need. `check` may refuse the access that is open, before a model is loaded.

    Without `shows_metrics`, `/metrics` is no part of the app. Models in `remote` are loaded in other processes, which
    its diallers reach. `tally` counts the runs of all processes to which `limits.runs` applies.
    """
    settings = config.server
    permits = RunPermits(settings.limits.runs, tally)
    async with AsyncExitStack() as stack:
        journals = await stack.enter_async_context(open_journals(config))
        access = await stack.enter_async_context(open_access(settings, permits, journals))
        check(access)
        tracer = stack.enter_context(open_tracer(settings.traces)) if settings.traces.endpoint else None
        pipelines, backends = await stack.enter_async_context(open_pipelines(config, loading, access.leases, remote))
        metrics = Metrics()
        permits.on_change = metrics.count_in_flight
        observers = _observers(settings, access, metrics, tracer)
        live = LiveRuns(observers, journals=journals, is_alone=settings.workers == 1)
        limits = ApiLimits(messages=settings.limits.messages, keep_s=settings.limits.keep_s)
        catalog = Catalog(config=config, pipelines=pipelines, backends=backends, limits=limits)
        service = Service(catalog=catalog, gate=access.gate, runs=live)
        find = (lambda: find_unreachable(pipelines.values())) if settings.ready_reaches_models else none_unreachable
        routes = make_health_routes(lambda: permits.is_closed, find)
        if shows_metrics:
            routes.append(make_metrics_route(metrics, access.gate))
        api = make_app(service, archive=access.archive, more_routes=routes)
        app = guard(api, settings, needs_key=access.needs_key)
        app = Watched(Parented(app) if tracer else app, [metrics.count_request, log_request])
        stack.enter_context(collecting_young())
        await stack.enter_async_context(working_beside(collect_at_rest(permits)))
        yield Front(app=app, access=access, permits=permits, service=service, metrics=metrics)


def check_access(settings: ServerConfig, address: str, access: Access) -> None:
    """Raise ConfigError for a server that strangers could use. `address` is where it listens."""
    if access.needs_key:
        return
    if not is_loopback(address):
        raise ConfigError(
            f"without a key the server listens on this machine only, not on {settings.host}; "
            "make a key first: stairstream keys create NAME"
        )
    if "*" in settings.cors_origins:
        raise ConfigError("server.cors_origins: without a key * would let any web page spend money; name the pages")


@asynccontextmanager
async def serving_runs(service: Service) -> AsyncIterator[None]:
    """Runs may be opened in this block, and durable ones of processes that are lost are taken over."""
    runs, journals = service.runs, service.runs.journals
    async with AsyncExitStack() as stack:
        if journals is not None:
            await stack.enter_async_context(journals.serve(take_over(service, journals), runs.end))
        await stack.enter_async_context(runs.serve())
        yield


def _observers(settings: ServerConfig, access: Access, metrics: Metrics, tracer: "Tracer | None") -> list[Observer]:
    """The observers that are called with every finished run."""
    observers = [metrics.count_run, log_runs(with_prompts=settings.log_prompts), log_waits()]
    if access.archive is not None:
        observers.append(keep_history(access.archive))
    if tracer is not None:
        observers.append(trace_runs(tracer))
    return observers
