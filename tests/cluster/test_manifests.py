"""The files for a cluster: what Ray and KubeRay take, with the whole configuration and none of its secrets in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from stairstream.cli.main import main
from stairstream.cli.serve import tell_copies
from stairstream.cluster.manifests import make_ray_service, make_serve_config, to_yaml, write_manifests
from stairstream.cluster.planning import plan_engines, scaling_options
from stairstream.config.replicas import ReplicaKeys
from stairstream.config.schema import Config, parse_config
from stairstream.core.errors import ConfigError
from tests.cluster.ray_service_schema import RAY_SERVICE

TEXT = """\
# what comes after a sign of its own stays: ${NOT_A_VALUE}
models:
  far: {backend: openai, base_url: "https://far.example/v1", model: m, api_key: "${FAR_KEY}"}
  big: {backend: vllm, model: m, replicas: {count: 1, most: 4, target: 64, gpus: 0.5, cpus: 6, memory_gb: 48}}
  warm: {backend: vllm, model: m, temperature: 0.9}
  say: {backend: scripted, length: 3}
pipelines:
  mix: {topology: mixture, proposers: [far, warm, say], aggregator: big}
server: {host: 0.0.0.0, port: 8000, database: "${DATABASE_URL}", replicas: {count: 2}}
"""
ENVIRON = {"FAR_KEY": "sk-secret", "DATABASE_URL": "postgresql://u:secret@h/d"}


@pytest.fixture
def config() -> Config:
    return parse_config(TEXT, "c.yaml", ENVIRON)


def test_models_that_load_the_same_share_an_engine(config: Config) -> None:
    (plan,) = plan_engines(config)
    assert (plan.name, plan.models) == ("engine-warm", ("warm", "big"))
    assert plan.replicas == ReplicaKeys(count=1, most=4, target=64, gpus=0.5, cpus=6, memory_gb=48)


def test_models_of_one_engine_agree_on_its_copies() -> None:
    text = TEXT.replace("temperature: 0.9", "temperature: 0.9, replicas: {count: 2}")
    with pytest.raises(ConfigError, match="models warm and big share an engine, and their replicas differ"):
        plan_engines(parse_config(text, "c.yaml", ENVIRON))


def test_scripted_model_has_an_engine_if_it_has_replicas() -> None:
    text = TEXT.replace("length: 3", "length: 3, replicas: {cpus: 0}")
    assert [plan.name for plan in plan_engines(parse_config(text, "c.yaml", ENVIRON))] == ["engine-warm", "engine-say"]


def test_scaling_is_a_number_or_bounds() -> None:
    resources = {"num_cpus": 2, "num_gpus": 0}
    assert scaling_options(ReplicaKeys(count=3, cpus=2)) == {"ray_actor_options": resources, "num_replicas": 3}
    scaled = scaling_options(ReplicaKeys(count=3, most=5, cpus=2, memory_gb=1))
    assert scaled == {
        "ray_actor_options": {**resources, "memory": 1_000_000_000},
        "autoscaling_config": {"min_replicas": 3, "max_replicas": 5, "target_ongoing_requests": 16},
    }


def test_no_secret_is_written(config: Config) -> None:
    written = "".join(write_manifests(TEXT, config).values())
    assert "secret@h" not in written and "sk-secret" not in written
    assert "${FAR_KEY}" in written and "${DATABASE_URL}" in written


def test_serve_config_has_the_text_as_it_stands(config: Config) -> None:
    made = yaml.safe_load(to_yaml(make_serve_config(TEXT, config)))
    (app,) = made["applications"]
    assert app["args"] == {"file": "c.yaml", "config": TEXT}
    assert made["http_options"] == {"host": "0.0.0.0", "port": 8000}


def test_serve_config_is_one_for_ray(config: Config) -> None:
    schema = pytest.importorskip("ray.serve.schema")
    schema.ServeDeploySchema.model_validate(make_serve_config(TEXT, config))


def test_ray_service_has_the_shape_that_kuberay_takes(config: Config) -> None:
    made = yaml.safe_load(to_yaml(make_ray_service(TEXT, config)))
    assert [error.message for error in Draft202012Validator(RAY_SERVICE).iter_errors(made)] == []
    assert "&id" not in to_yaml(make_ray_service(TEXT, config))


def test_any_names_of_models_make_groups_of_pods() -> None:
    names = ["a_b", "a.b", "Big Model_", "x" * 90, "x" * 91, "模型"]
    models = "".join(f"  {name}: {{backend: scripted, length: 3, replicas: {{}}}}\n" for name in names)
    text = f"models:\n{models}pipelines: {{p: {{topology: mixture, proposers: {names}, aggregator: a.b}}}}\n"
    made = make_ray_service(text, parse_config(text, "c.yaml", {}))
    assert [error.message for error in Draft202012Validator(RAY_SERVICE).iter_errors(made)] == []
    groups = [group["groupName"] for group in made["spec"]["rayClusterConfig"]["workerGroupSpecs"]]
    assert len(set(groups)) == len(groups)


def test_pods_have_what_the_copies_reserve(config: Config) -> None:
    cluster = make_ray_service(TEXT, config)["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert list(groups) == ["front", "engine-warm"]
    assert [groups["engine-warm"][key] for key in ("replicas", "minReplicas", "maxReplicas")] == [1, 1, 4]
    limits = _container(groups["engine-warm"])["resources"]["limits"]
    assert limits == {"cpu": "6", "memory": "48G", "nvidia.com/gpu": "1"}
    assert cluster["enableInTreeAutoscaling"] is True


def test_pods_take_variables_from_the_secret(config: Config) -> None:
    head = make_ray_service(TEXT, config)["spec"]["rayClusterConfig"]["headGroupSpec"]
    taken = {one["name"]: one.get("valueFrom", {}).get("secretKeyRef") for one in _container(head)["env"]}
    assert taken == {
        "RAY_SERVE_ENABLE_HA_PROXY": None,
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": None,
        "FAR_KEY": {"name": "stairstream", "key": "FAR_KEY"},
        "DATABASE_URL": {"name": "stairstream", "key": "DATABASE_URL"},
    }


def test_command_writes_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "c.yaml"
    file.write_text(TEXT)
    assert main(["deploy", "-c", str(file), "--write", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rayservice.yaml", "serve.yaml"]
    assert "server.database is a file" not in capsys.readouterr().err


def test_command_says_that_a_file_is_of_one_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models: {m: {backend: scripted, length: 3}}\npipelines: {p: {topology: single, model: m}}\n")
    assert main(["deploy", "-c", str(file), "--write", str(tmp_path)]) == 0
    assert "server.database is a file" in capsys.readouterr().err


def _container(group: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = group["template"]["spec"]["containers"][0]
    return found


def test_a_server_without_a_cluster_says_that_it_has_no_copies(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    tell_copies(config)
    told = "copies are for a Ray cluster (stairstream deploy), here there is one: models.big.replicas, server.replicas"
    assert told in capsys.readouterr().out
