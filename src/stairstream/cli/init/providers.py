"""Known endpoints by their OpenAI-compatible addresses: what each needs, and what to know of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from stairstream.core.errors import ConfigError
from stairstream.core.urls import split_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A kind of endpoint.

    `base_url` may hold NAME, for the part that each user has another of. `key_variable`: the environment variable that
    its key usually is in; None: it needs no key. `host` recognizes its addresses. `lists_models`: whether GET /models
    names what `model` takes. `listing_headers` are those of that request instead of a bearer's, with KEY for the key;
    `listing_prefix` stands before each name in it, and is not needed.
    """

    name: str
    title: str
    base_url: str
    key_variable: str | None = None
    host: str = r"(?!)"
    note: str = ""
    lists_models: bool = True
    listing_headers: Mapping[str, str] | None = None
    listing_query: str = ""
    listing_prefix: str = ""


_ALL = (
    Provider(
        name="openrouter",
        title="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        host=r"(^|\.)openrouter\.ai$",
        note="Prices and context windows are those that it listed when this file was made.",
    ),
    Provider(
        name="openai",
        title="OpenAI",
        base_url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        host=r"(^|\.)openai\.com$",
        note="It can't continue an answer, so updates use the layout `quoted`.",
    ),
    Provider(
        name="anthropic",
        title="Anthropic",
        base_url="https://api.anthropic.com/v1",
        key_variable="ANTHROPIC_API_KEY",
        host=r"(^|\.)anthropic\.com$",
        note="Its compatible address caches no prompts; Claude from 4.6 on can't continue an answer (layout `quoted`).",
        listing_headers={"x-api-key": "KEY", "anthropic-version": "2023-06-01"},
        listing_query="?limit=1000",
    ),
    Provider(
        name="gemini",
        title="Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_variable="GEMINI_API_KEY",
        host=r"^generativelanguage\.googleapis\.com$",
        listing_prefix="models/",
        note="A model that thinks does so at every update: `reasoning: effort` keeps that short.",
    ),
    Provider(
        name="azure",
        title="Azure OpenAI",
        base_url="https://NAME.openai.azure.com/openai/v1",
        key_variable="AZURE_OPENAI_API_KEY",
        host=r"\.openai\.azure\.com$|\.services\.ai\.azure\.com$",
        note="`model` is the name of a deployment. It can't continue an answer, so updates use the layout `quoted`.",
        lists_models=False,
    ),
    Provider(
        name="ollama",
        title="Ollama",
        base_url="http://127.0.0.1:11434/v1",
        note="OLLAMA_NUM_PARALLEL is how many agents it serves at once; it does not say what it had cached.",
    ),
    Provider(
        name="vllm",
        title="vLLM",
        base_url="http://127.0.0.1:8000/v1",
        note="Start it with --enable-prefix-caching --enable-prompt-tokens-details --block-size 32.",
    ),
    Provider(
        name="llamacpp",
        title="llama.cpp (llama-server)",
        base_url="http://127.0.0.1:8080/v1",
        note="Start it with --parallel for the agents that run at once: each of its slots has a cache of its own.",
    ),
)
PROVIDERS: Mapping[str, Provider] = {one.name: one for one in _ALL}


def find_provider(text: str) -> Provider:
    """The known endpoint of that name, or the one at that address. Raises ConfigError for what is neither."""
    if known := PROVIDERS.get(text.lower()):
        return known
    parts = split_url(text)
    if parts is None:
        names = ", ".join(PROVIDERS)
        raise ConfigError(f"{text!r} is neither an address, as in http://127.0.0.1:8000/v1, nor one of {names}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{parts.hostname}: an address with a password or a query would stand in the file; leave it out"
        )
    address = text.rstrip("/") if parts.path.strip("/") else f"{text.rstrip('/')}/v1"
    for one in _ALL:
        if re.search(one.host, parts.hostname or ""):
            return replace(one, base_url=address)
    for one in _ALL:
        if address == one.base_url:
            return one
    return Provider(name=address, title=parts.netloc, base_url=address)


def check_complete(provider: Provider) -> Provider:
    """The provider, if its address is one; ConfigError if a part of it is still to be named."""
    if "NAME" in provider.base_url:
        raise ConfigError(f"{provider.title}: give your resource's address, as in {provider.base_url}")
    return provider


def check_variable(name: str, environ: Mapping[str, str]) -> str:
    """The name, if it may be an environment variable's; the error does not show it, as it may be a key."""
    if name in environ or re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        return name
    raise ConfigError("a key is named by its environment variable, as in OPENAI_API_KEY: neither set nor a usual name")
