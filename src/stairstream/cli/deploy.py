"""`stairstream deploy`: a configuration on a Ray cluster, or the files by which others put it there."""

import os
from pathlib import Path

from stairstream.backends.extras import require
from stairstream.cli.terminal import tell
from stairstream.cluster.manifests import make_serve_config, write_manifests
from stairstream.config.databases import PostgresAddress
from stairstream.config.schema import Config, parse_config, read_source

ADDRESS = "http://127.0.0.1:8265"
"""Ray's own default for its REST interface."""


def deploy(file: Path | None, address: str | None, folder: Path | None) -> None:
    """Deploy, or write the files into the folder. Raises ConfigError before anything is changed."""
    text, name = read_source(file)
    config = parse_config(text, name)
    _advise(config)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for title, content in write_manifests(text, config).items():
            (folder / title).write_text(content, encoding="utf-8")
            tell(f"wrote {folder / title}")
        return
    require("deploy", ("ray",), "ray")
    from stairstream.cluster import deploying

    chosen = address or os.environ.get("RAY_DASHBOARD_ADDRESS") or ADDRESS
    deploying.deploy(chosen, make_serve_config(text, config), tell)
    tell(f"it runs: port {config.server.port} of each node with a proxy; models: {', '.join(config.pipelines)}")


def _advise(config: Config) -> None:
    """Tell what works on one machine and may surprise on several."""
    if not isinstance(config.server.location, PostgresAddress):
        tell(
            f"server.database is a file, {config.server.location}, which each node has for itself; "
            "with postgresql://... keys, limits, history and durable runs are of all nodes"
        )
    if config.server.workers > 1:
        tell("server.workers is ignored on a cluster: server.replicas says how many fronts there are")
    if config.server.metrics_port is not None:
        tell("server.metrics_port is ignored on a cluster: /metrics of the API answers for one front at a time")
