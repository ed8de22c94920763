"""deploy/: every path, command, key and metric in it exists. Nothing here builds or starts a container."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

import yaml
from prometheus_client.parser import text_string_to_metric_families

from stairstream.config.schema import Config, load_config
from stairstream.server.http.watching import AnsweredRequest
from stairstream.server.observing.metrics import Metrics
from tests.commands import PROJECT, commands_in, problem_of
from tests.pages import DOCS, ROOT, blocks_of
from tests.server.finished import finish
from tests.server.test_clients import run_server

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
STEPS = [tuple(line.split(maxsplit=1)) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
COMPOSE: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DASHBOARD: Any = json.loads((DEPLOY / "grafana/dashboards/stairstream.json").read_text())
VARIABLES = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "env.example").read_text(), re.MULTILINE))


def step(name: str) -> list[str]:
    return [rest for word, rest in STEPS if word == name]


def config() -> Config:
    return load_config(DEPLOY / "pipelines.yaml")


@pytest.fixture(autouse=True)
def filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value or "filled-in")


def test_everything_that_is_copied_exists_and_reaches_the_build() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    for line in step("COPY"):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        if "--from=" not in line:
            assert all((ROOT / source).exists() and f"!{source.removeprefix('./')}" in ignored for source in sources)
    # what the build of the package needs besides its source
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"} <= set(" ".join(step("COPY")).split())


def test_image_installs_extras_that_there_are_on_a_python_that_is_tested() -> None:
    (extras,) = re.findall(r"'\.\[(.*?)\]'", DOCKERFILE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    tested = re.findall(r'"(3\.\d+)"', (ROOT / ".github/workflows/ci.yml").read_text())
    assert {found for found in re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE)} <= set(tested)


def test_image_runs_a_command_that_there_is_as_a_user_without_rights() -> None:
    (entry,), (arguments,) = step("ENTRYPOINT"), step("CMD")
    assert problem_of([*json.loads(entry), *json.loads(arguments)]) is None
    (user,) = step("USER")
    assert user != "root" and any(line.startswith("useradd") and line.endswith(user) for line in step("RUN"))
    assert [word for word, _ in STEPS].index("USER") > max(i for i, (word, _) in enumerate(STEPS) if word == "RUN")


def test_mounted_files_exist_and_named_volumes_are_declared() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            known = (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            assert known, f"{name}: {volume}"
        for other in service.get("depends_on", []):
            assert other in SERVICES


def test_server_gets_the_file_that_its_command_names() -> None:
    (arguments,) = step("CMD")
    assert any(f":{path}:ro" in SERVICES["server"]["volumes"][0] for path in json.loads(arguments))
    built = SERVICES["server"]["build"]
    assert (DEPLOY / built["context"]).resolve() == ROOT and (ROOT / built["dockerfile"]).exists()


def test_ports_and_addresses_are_those_of_the_configuration() -> None:
    server, exposed = config().server, " ".join(step("EXPOSE")).split()
    assert [str(server.port), str(server.metrics_port)] == exposed and server.host == "0.0.0.0"
    assert f":{server.port}/healthz" in DOCKERFILE
    assert SERVICES["server"]["ports"] == [f"127.0.0.1:{server.port}:{server.port}"]
    prometheus: Any = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": [f"server:{server.metrics_port}"]}]
    assert SERVICES["open-webui"]["environment"]["OPENAI_API_BASE_URL"] == f"http://server:{server.port}/v1"
    postgres = SERVICES["postgres"]["environment"]
    user, password = postgres["POSTGRES_USER"], VARIABLES["POSTGRES_PASSWORD"] or "filled-in"
    assert server.database == f"postgresql://{user}:{password}@postgres:5432/{postgres['POSTGRES_DB']}"


def test_front_end_gets_a_pipeline_for_its_tasks() -> None:
    assert SERVICES["open-webui"]["environment"]["TASK_MODEL_EXTERNAL"] in config().pipelines


def test_server_is_given_longer_to_stop_than_its_runs_to_end() -> None:
    assert int(SERVICES["server"]["stop_grace_period"].removesuffix("s")) > config().server.drain_s


def test_every_variable_is_in_the_example() -> None:
    files = (DEPLOY / "compose.yaml", DEPLOY / "pipelines.yaml")
    named = {name for file in files for name in re.findall(r"\$\{(\w+)", file.read_text())}
    assert named == set(VARIABLES)


def test_commands_of_the_page_call_services_and_commands_that_there_are() -> None:
    text = (
        "\n".join(block.text for block in blocks_of(DOCS / "deployment.md", "sh"))
        + (DEPLOY / "env.example").read_text()
    )
    inline = re.findall(r"`(docker compose [^`]+)`", (DOCS / "deployment.md").read_text())
    lines = [shlex.join(command) for command in commands_in(text)] + inline
    called = [
        found for line in lines for found in re.findall(r"docker compose (?:run --rm|exec|restart) (\w+)(.*)", line)
    ]
    assert len(called) >= 3
    for service, command in called:
        assert service in SERVICES
        words = shlex.split(command)
        assert problem_of(words if words[:1] == ["stairstream"] else ["stairstream", *words]) is None


def exported() -> dict[str, set[str]]:
    """The labels of every sample that the server exports, after runs of all kinds."""
    metrics = Metrics()
    for finished in finish("mix", "failing", "broken"):
        metrics.count_run(finished)
    metrics.count_request(AnsweredRequest(route="/v1/models", status=200, method="GET", path="/v1/models", total_s=0.1))
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["query"]["query"] for one in DASHBOARD["templating"]["list"])


def test_every_metric_of_the_dashboard_is_exported_with_its_labels() -> None:
    known = exported()
    for expression in expressions():
        names = re.findall(r"stairstream_\w+", expression)
        assert names and set(names) <= set(known), expression
        filters = re.findall(r"(stairstream_\w+)\{(.*?)\}", expression)
        assert all(set(re.findall(r"(\w+)=", labels)) <= known[name] for name, labels in filters), expression
        grouped = {label.strip() for found in re.findall(r"by \((.*?)\)", expression) for label in found.split(",")}
        assert all(grouped <= known[name] for name in names), expression


def test_dashboard_shows_what_is_promised() -> None:
    shown = " ".join(expressions())
    for name in ("first_token_seconds", "longest_gap_seconds", "updates_total", "degraded_runs_total", "cost_total"):
        assert f"stairstream_{name}" in shown
    source: Any = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["datasources"][0]["uid"]}
    provider: Any = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/stairstream.yaml").read_text())
    assert any(
        volume.split(":")[1] == provider["providers"][0]["options"]["path"] for volume in SERVICES["grafana"]["volumes"]
    )


@pytest.mark.slow
def test_health_check_of_the_image_works(tmp_path: Path) -> None:
    (found,) = re.findall(r"HEALTHCHECK.*?CMD (\[.*?\])", DOCKERFILE)
    _, *arguments = json.loads(found)
    with run_server(tmp_path) as url:
        address = url.removesuffix("/v1")
        served = [one.replace(f"http://127.0.0.1:{config().server.port}", address) for one in arguments]
        assert subprocess.run([sys.executable, *served], check=False).returncode == 0
    assert subprocess.run([sys.executable, *served], check=False, stderr=subprocess.DEVNULL).returncode == 1
