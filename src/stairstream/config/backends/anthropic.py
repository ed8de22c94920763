"""`backend: anthropic`: any endpoint with Anthropic's Messages API."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from stairstream.backends.base import Backend
from stairstream.config.backends.connecting import check_base_url, connect
from stairstream.config.backends.kind import Kind
from stairstream.config.reading import Secret, Where, Whole
from stairstream.core.session import Takes

if TYPE_CHECKING:
    from stairstream.config.build import Engines
    from stairstream.config.models import CommonKeys, ModelConfig

Thinking = Literal["disabled", "adaptive", "enabled", "always"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]

_LEAST_BUDGET = 1024
"""Fewer thinking tokens the API does not take as a budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicKeys:
    """`backend: anthropic`: any endpoint with /v1/messages.

    `thinking` and `effort` are the model's own settings. `headers` are sent with every request. `cache`: the part of a
    prompt that the next call of an answer sends again is marked for the prompt cache. `takes`: what the model takes
    besides text.
    """

    model: str
    base_url: str = "https://api.anthropic.com"
    api_key: Annotated[str, Secret()] | None = field(default=None, repr=False)
    continues: Literal["auto", "prefill", "none"] = "auto"
    thinking: Thinking | None = None
    effort: Effort | None = None
    cache: bool = True
    headers: Mapping[str, Annotated[str, Secret()]] = field(default_factory=dict, repr=False)
    takes: tuple[Takes, ...] = ("tools", "response_format", "images")
    context_tokens: Whole | None = None


async def _open(keys: AnthropicKeys, model: "ModelConfig", engines: "Engines") -> Backend:
    from stairstream.backends.anthropic.backend import AnthropicBackend

    pool, capabilities = await connect(engines)
    return AnthropicBackend(
        base_url=keys.base_url,
        model=keys.model,
        pool=pool,
        capabilities=capabilities,
        api_key=keys.api_key,
        continues=None if keys.continues == "auto" else keys.continues,
        thinking=keys.thinking,
        thinking_tokens=model.common.thinking_tokens or 0,
        effort=keys.effort,
        headers=keys.headers,
        marks_cache=keys.cache,
        takes=keys.takes,
    )


def _check(keys: AnthropicKeys, common: "CommonKeys", section: Mapping[str, object], where: Where) -> None:
    check_base_url(keys.base_url, section, where)
    if keys.thinking == "enabled" and (common.thinking_tokens or 0) < _LEAST_BUDGET:
        raise (where / "thinking").error(f"enabled needs thinking_tokens of at least {_LEAST_BUDGET}: its budget")
    for name, value in keys.headers.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise (where / "headers").error(f"{name!r} is not a header's name, as in anthropic-beta")
        if not (value.isascii() and value.isprintable()):
            raise (where / "headers" / name).error("holds characters that no header has")


ANTHROPIC = Kind(
    keys=AnthropicKeys,
    open=_open,
    check=_check,
    url=lambda keys: keys.base_url,
    file=None,
    model=lambda keys: keys.model,
    thinks_anew=lambda keys: keys.thinking == "always",
)
