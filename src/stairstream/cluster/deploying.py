"""Gives a cluster a Serve config by Ray's REST interface, and waits until it runs."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

from stairstream.cluster.planning import APPLICATION
from stairstream.core.errors import ConfigError, ConnectionFailed

LOOK_S = 1.0
"""Time between two looks at the state."""


def deploy(address: str, serve_config: Mapping[str, Any], tell: Callable[[str], None]) -> None:
    """Returns when the application runs. Raises ConfigError if it can't, and ConnectionFailed if nothing answers there.

    Every application of the cluster is replaced: the config is all that Serve is to run.
    """
    try:
        client = ServeSubmissionClient(address)
        client.deploy_applications(dict(serve_config))
    except ValueError as exc:
        raise ConfigError(f"--address {address}: {' '.join(str(exc).split())}") from None
    except (ConnectionError, RuntimeError) as exc:
        raise ConnectionFailed(f"{address} has not taken the application: {' '.join(str(exc).split())[:300]}") from None
    said = ""
    while True:
        app = client.get_serve_details()["applications"].get(APPLICATION, {})
        status, message = app.get("status", "DEPLOYING"), " ".join(app.get("message", "").split())
        if status == "RUNNING":
            return
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise ConfigError(f"the application does not run: {message[-500:]}")
        if (now := _in_a_line(app)) != said:
            tell(said := now)
        time.sleep(LOOK_S)


def _in_a_line(app: Mapping[str, Any]) -> str:
    """The deployments and how many of their replicas run."""
    parts = []
    for name, one in app.get("deployments", {}).items():
        running = sum(replica["state"] == "RUNNING" for replica in one["replicas"])
        parts.append(f"{name} {running} of {one['target_num_replicas']}")
    return f"starting: {', '.join(parts)}" if parts else "starting"
