"""`backend: openai`: any endpoint with /chat/completions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from stairstream.backends.base import Backend
from stairstream.backends.limits import PREFETCH_CONCURRENCY, PREFETCH_PER_MINUTE
from stairstream.config.backends.connecting import check_base_url, connect
from stairstream.config.backends.kind import Kind
from stairstream.config.reading import Secret, Where, Whole
from stairstream.core.session import Takes

if TYPE_CHECKING:
    from stairstream.config.build import Engines
    from stairstream.config.models import CommonKeys, ModelConfig

Reasoning = Literal["template", "effort", "always"]
"""The way in which thinking is kept out of the steps after the first: by the chat template's switch, by the lowest
`reasoning_effort`, or not at all; then an agent that reads answers in one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIKeys:
    """`backend: openai`: any endpoint with /chat/completions.

    `cache_salt` keeps its prefix cache apart from that of others; `session_header` names a header that is the same in
    all calls of an agent, for routers that go by it. `prefetch`: the prompt of an update is sent once before, while
    the step in flight still speaks. `takes`: what the model takes besides text.
    """

    base_url: str
    model: str
    api_key: Annotated[str, Secret()] | None = field(default=None, repr=False)
    continues: Literal["auto", "flag", "prefill", "prefix", "none"] = "auto"
    reasoning: Reasoning | None = None
    cache_salt: Annotated[str, Secret()] | None = field(default=None, repr=False)
    session_header: str | None = None
    prefetch: bool = False
    takes: tuple[Takes, ...] = ("tools", "response_format")
    context_tokens: Whole | None = None


async def _open(keys: OpenAIKeys, model: "ModelConfig", engines: "Engines") -> Backend:
    from stairstream.backends.openai import OpenAIBackend

    pool, capabilities = await connect(engines)
    return OpenAIBackend(
        base_url=keys.base_url,
        model=keys.model,
        pool=pool,
        capabilities=capabilities,
        api_key=keys.api_key,
        continues=None if keys.continues == "auto" else keys.continues,
        reasoning=keys.reasoning,
        thinking_tokens=model.common.thinking_tokens or 0,
        cache_salt=keys.cache_salt,
        session_header=keys.session_header,
        prefetches=keys.prefetch,
        takes=keys.takes,
    )


def _check(keys: OpenAIKeys, common: "CommonKeys", section: Mapping[str, object], where: Where) -> None:
    check_base_url(keys.base_url, section, where)
    if keys.prefetch and (limit := _limit_without_prefetch(common)):
        raise (where / "prefetch").error(f"needs {limit}: it is never waited for")
    header = keys.session_header
    if header is not None and not re.fullmatch(r"[A-Za-z0-9-]+", header):
        raise (where / "session_header").error(f"must be a header's name, as in x-session-id, not {header!r}")


def _limit_without_prefetch(common: "CommonKeys") -> str:
    """The limit under which no prefetch would ever be made, and what it would have to be; "" if there is none."""
    if common.max_concurrency is not None and common.max_concurrency < PREFETCH_CONCURRENCY:
        return f"a max_concurrency of at least {PREFETCH_CONCURRENCY}"
    if common.requests_per_minute is not None and common.requests_per_minute < PREFETCH_PER_MINUTE:
        return f"requests_per_minute of at least {PREFETCH_PER_MINUTE}"
    return ""


OPENAI = Kind(
    keys=OpenAIKeys,
    open=_open,
    check=_check,
    url=lambda keys: keys.base_url,
    file=None,
    model=lambda keys: keys.model,
    thinks_anew=lambda keys: keys.reasoning == "always",
)
