"""Files for a cluster, as YAML: a Serve config, and a RayService for KubeRay on Kubernetes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from stairstream.cluster.planning import APPLICATION, FRONT, EnginePlan, distinct, plan_engines
from stairstream.config.replicas import ReplicaKeys
from stairstream.config.schema import Config
from stairstream.config.yaml_file import variables_of

BUILDER = "stairstream.cluster.application:build"
RAY_VERSION = "2.60.0"
IMAGE = "stairstream-ray"
"""The image of deploy/ray.Dockerfile, by the name that its first lines give it."""
SECRET = "stairstream"
"""The Kubernetes secret that holds the environment variables of the configuration."""

MOST_SIGNS = 40
"""In the name of a group of pods, which Kubernetes makes longer ones of."""

RAY_ENVIRON = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
"""Environment of every process of the cluster: HAProxy before the fronts, and gRPC between replicas."""


def make_serve_config(text: str, config: Config) -> dict[str, Any]:
    """The config of `serve deploy` and of Ray's REST interface. It holds the text of the configuration as it stands.

    Environment variables are read by each process of the cluster, so that no secret is in it.
    """
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": config.server.host, "port": config.server.port},
        "applications": [
            {
                "name": APPLICATION,
                "route_prefix": "/",
                "import_path": BUILDER,
                "args": {"file": config.file, "config": text},
            }
        ],
    }


def make_ray_service(text: str, config: Config) -> dict[str, Any]:
    """A RayService: the Serve config, and a cluster with pods for the fronts and for each engine."""
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in RAY_ENVIRON.items()]
    for name in variables_of(text, config.file):
        env.append({"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": name}}})
    head_ports = {"gcs": 6379, "dashboard": 8265, "client": 10001, "serve": config.server.port}
    plans = [EnginePlan(name=FRONT, models=(), replicas=config.server.replicas), *plan_engines(config)]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": APPLICATION},
        "spec": {
            "serveConfigV2": to_yaml(make_serve_config(text, config)),
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "enableInTreeAutoscaling": any(plan.replicas.most is not None for plan in plans),
                "headGroupSpec": {
                    "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},
                    "template": _pod("ray-head", ReplicaKeys(cpus=2, memory_gb=4), env, head_ports),
                },
                "workerGroupSpecs": [
                    _group(name, plan, env, config.server.port)
                    for name, plan in zip(_group_names(plans), plans, strict=True)
                ],
            },
        },
    }


def _group_names(plans: Sequence[EnginePlan]) -> list[str]:
    """Names as Kubernetes takes them: short, and of few signs."""
    return distinct(re.sub(r"[^a-z0-9]+", "-", plan.name.lower())[:MOST_SIGNS].strip("-") for plan in plans)


def _group(name: str, plan: EnginePlan, env: Sequence[Mapping[str, Any]], port: int) -> dict[str, Any]:
    """Pods of which each has what one copy reserves."""
    copies = plan.replicas
    return {
        "groupName": name,
        "replicas": copies.count,
        "minReplicas": copies.count,
        "maxReplicas": copies.most or copies.count,
        "rayStartParams": {"num-cpus": f"{max(1, round(copies.cpus))}"},
        "template": _pod("ray-worker", copies, env, {"serve": port}),
    }


def _pod(name: str, needs: ReplicaKeys, env: Sequence[Mapping[str, Any]], ports: Mapping[str, int]) -> dict[str, Any]:
    memory = f"{needs.memory_gb or 4:g}G"
    limits: dict[str, str] = {"cpu": f"{max(1.0, needs.cpus):g}", "memory": memory}
    if needs.gpus:
        limits["nvidia.com/gpu"] = f"{-(-needs.gpus // 1):g}"
    container = {
        "name": name,
        "image": IMAGE,
        "env": list(env),
        "ports": [{"name": key, "containerPort": port} for key, port in ports.items()],
        "resources": {"requests": dict(limits), "limits": limits},
    }
    return {"spec": {"containers": [container]}}


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are read best, and nothing as a reference to what it has written before."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def to_yaml(value: object) -> str:
    """A value as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def write_manifests(text: str, config: Config) -> Mapping[str, str]:
    """Texts of the files that deploy the configuration, by their names."""
    return {
        "serve.yaml": to_yaml(make_serve_config(text, config)),
        "rayservice.yaml": to_yaml(make_ray_service(text, config)),
    }
