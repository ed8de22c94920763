"""`stairstream deploy` on a Ray cluster."""

from pathlib import Path

import pytest

from stairstream.cli.main import main
from tests.cluster.testbed import ANSWER, REST_PORT, Testbed, asking
from tests.server.asking import Client

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]


def test_the_command_deploys_and_returns_when_it_answers(
    bed: Testbed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(bed.fill())
    assert main(["deploy", "-c", str(file), "--address", f"http://127.0.0.1:{REST_PORT}"]) == 0
    assert "it runs" in capsys.readouterr().err
    client = Client("mix", "Why?")
    with asking([client]):
        pass
    assert (client.text, client.finish, client.error) == (ANSWER, "stop", None)


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text("models: {m: {backend: scripted, length: 3}}\npipelines: {p: {topology: single, model: m}}\n")
    assert main(["deploy", "-c", str(file), "--address", "http://127.0.0.1:1"]) == 1
    assert "http://127.0.0.1:1 has not taken the application" in capsys.readouterr().err.splitlines()[-1]
