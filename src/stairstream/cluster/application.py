"""The application that Ray Serve imports: `serve run stairstream.cluster.application:build file=pipelines.yaml`."""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig

from stairstream.cluster.engines import EngineReplica
from stairstream.cluster.fronts import FrontReplica
from stairstream.cluster.planning import CLOSING_S, FRONT, MOST_SESSIONS, EnginePlan, plan_engines, scaling_options
from stairstream.config.schema import parse_config, read_source

ROUTER = "stairstream.cluster.routing:SessionRouter"
SURGE_PERCENT = 20
"""Copies that may be there beside those that they replace: at least one. None where each needs a GPU."""


def build(args: Mapping[str, str]) -> Any:
    """The application of a configuration: its text in `config`, or the name of its file in `file`."""
    text, file = args.get("config"), args.get("file")
    if text is None:
        text, file = read_source(file)
    file = file or "the configuration"
    config = parse_config(text, file)
    grace_s = config.server.drain_s + CLOSING_S
    plans = plan_engines(config)
    engines = {plan.name: _engine(plan, grace_s).bind(text, file, list(plan.models)) for plan in plans}
    front = serve.deployment(
        serve.ingress()(FrontReplica),
        name=FRONT,
        max_ongoing_requests=config.server.limits.connections,
        max_surge_percent=SURGE_PERCENT,
        graceful_shutdown_timeout_s=2 * grace_s,  # for requests, then for runs without a client
        graceful_shutdown_wait_loop_s=0.5,
        **scaling_options(config.server.replicas),
    )
    return front.bind(text, file, engines, {plan.name: list(plan.models) for plan in plans})


def _engine(plan: EnginePlan, grace_s: float) -> Any:
    return serve.deployment(
        EngineReplica,
        name=plan.name,
        max_ongoing_requests=MOST_SESSIONS,
        max_surge_percent=0 if plan.replicas.gpus else SURGE_PERCENT,
        graceful_shutdown_timeout_s=grace_s,
        graceful_shutdown_wait_loop_s=0.5,
        request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        logging_config={"enable_access_log": False},  # a line for each batch of frames
        **scaling_options(plan.replicas),
    )
