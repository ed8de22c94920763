"""The application that Ray Serve imports, before anything of it runs: what it asks the cluster for."""

from typing import Any

import pytest

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]

CONFIG = """
models:
  big: {backend: vllm, model: m, replicas: {count: 1, most: 4, target: 64, gpus: 0.5, cpus: 6, memory_gb: 48}}
  warm: {backend: vllm, model: m, temperature: 0.9}
  small: {backend: torch, model: m, replicas: {count: 3, cpus: 2}}
pipelines:
  mix: {topology: mixture, proposers: [warm, small], aggregator: big}
server: {replicas: {count: 2}}
"""


def deployments() -> dict[str, Any]:
    """Those of the configuration, by name."""
    from stairstream.cluster.application import build

    front = build({"config": CONFIG, "file": "c.yaml"})._bound_deployment
    engines = front.init_args[2]
    return {"front": front, **{name: one._bound_deployment for name, one in engines.items()}}


def test_an_engine_on_gpus_is_one_deployment_for_its_models_and_has_no_copies_to_spare() -> None:
    found = deployments()
    assert list(found) == ["front", "engine-warm", "engine-small"]
    engine = found["engine-warm"]
    assert engine.init_args == (CONFIG, "c.yaml", ["warm", "big"])
    assert engine.ray_actor_options == {"num_cpus": 6, "num_gpus": 0.5, "memory": 48_000_000_000}
    scaling = engine._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 4, 64)
    assert engine._deployment_config.max_surge_percent == 0


def test_others_have_copies_beside_those_that_they_replace() -> None:
    found = deployments()
    for name, count in (("front", 2), ("engine-small", 3)):
        assert found[name]._deployment_config.num_replicas == count
        assert found[name]._deployment_config.max_surge_percent > 0
