"""docs/clients.md: its configuration is one that the server takes, and the error codes that it names exist."""

import re
from pathlib import Path

from stairstream.config.schema import parse_config

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/clients.md").read_text()


def test_configuration_is_one_that_is_taken() -> None:
    (text,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "pipelines:" in block]
    config = parse_config(text, "clients.md", {"API_KEY": "k"})
    assert {"mix", "small"} == {*config.pipelines}
    assert config.server.list_policies == ("wait", "single") and config.server.hosts == ("host.docker.internal",)


def test_names_of_its_clients_are_those_of_the_pipelines() -> None:
    assert {*re.findall(r"openai/(\w+)", PAGE), *re.findall(r"model: (mix|small)\b", PAGE)} <= {"mix", "small"}
