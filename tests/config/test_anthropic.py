"""`backend: anthropic` in a file: what it becomes, and what is refused."""

import asyncio

import pytest

from stairstream.backends.anthropic.backend import AnthropicBackend
from stairstream.backends.retry import Retrying
from stairstream.config.build import open_backends
from stairstream.config.graphs import build_graph
from stairstream.config.models import deadlines_of
from stairstream.config.schema import Config, parse_config
from stairstream.core.errors import ConfigError

KEY = "sk-ant-secret"


def parse(keys: str) -> Config:
    text = f"""
models:
  claude: {{backend: anthropic, model: claude-sonnet-4-5, {keys}}}
pipelines:
  one: {{topology: single, model: claude}}
"""
    return parse_config(text, "c.yaml", {"ANTHROPIC_API_KEY": KEY})


def test_a_model_of_anthropic_needs_a_name_and_a_key() -> None:
    config = parse('api_key: "${ANTHROPIC_API_KEY}", headers: {anthropic-beta: x}, effort: low')

    async def main() -> AnthropicBackend:
        async with open_backends(config, [build_graph(config.models, config.pipeline())]) as backends:
            backend = backends["claude"]
            assert isinstance(backend, Retrying) and isinstance(backend._inner, AnthropicBackend)
            return backend._inner

    backend = asyncio.run(main())
    assert backend.endpoint.where == "api.anthropic.com (claude-sonnet-4-5)"
    headers = backend.endpoint._headers()
    assert (headers["x-api-key"], headers["anthropic-beta"]) == (KEY, "x")
    assert backend.takes == {"tools", "response_format", "images", "top_k"}
    assert backend.capability.continues == "prefill"
    model = config.models["claude"]
    assert model.is_remote and deadlines_of(model, ()) == (60, 30) and not model.thinks_anew
    assert KEY not in repr(model)
    assert parse("thinking: always").models["claude"].thinks_anew


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("thinking: enabled", "thinking: enabled needs thinking_tokens of at least 1024"),
        ("thinking: enabled, thinking_tokens: 1000", "thinking: enabled needs thinking_tokens of at least 1024"),
        ("thinking: some", "is not a valid choice"),
        ("effort: huge", "is not a valid choice"),
        ("continues: flag", "is not a valid choice"),
        ("base_url: anthropic", "base_url: must be a URL"),
        ("headers: {'x y': z}", "headers: 'x y' is not a header's name"),
        ("headers: {x: 1}", "headers.x: must be text"),
        ('headers: {x: "a\\nb"}', "headers.x: holds characters"),
    ],
)
def test_mistakes_are_said(keys: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(keys)
    assert said in str(caught.value)
