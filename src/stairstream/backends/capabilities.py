"""The ways an endpoint can continue an answer so far: a table of known endpoints, one probe for the others, and its
results on disk. What is neither known nor probed counts as unable."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
import platformdirs

from stairstream.backends.http import host_of
from stairstream.backends.json_files import load_json, store_json
from stairstream.core.errors import RequestRejected
from stairstream.core.messages import Message

Continues = Literal["flag", "prefill", "prefix", "none"]
"""The way an endpoint continues an answer so far. `flag`: `continue_final_message` (vLLM, SGLang, TGI, llama.cpp);
`prefill`: a trailing assistant message is enough; `prefix`: `prefix: true` on it (DeepSeek, Mistral); `none`: not at
all."""

ProbeMode = Literal["flag", "prefill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """The way an endpoint continues, and how we know. `echoes`: it repeats the continued text first; None: unknown.

    `is_seen`: it has continued before our eyes, in a probe or in an answer.
    """

    continues: Continues
    why: str
    echoes: bool | None = None
    is_seen: bool = False


UNPROBED = Capability(continues="none", why="the endpoint was not probed yet, so it counts as unable to continue")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    host: str
    continues: Continues | None
    url: str = ""
    model: str = ""


# The first match counts; patterns are searched in host, URL and model. None: hosted, but it depends on the server.
_KNOWN = (
    _Known(host=r"(^|\.)openai\.com$|\.openai\.azure\.com$", continues="none"),
    _Known(host=r"(^|\.)anthropic\.com$", model=r"claude-3|claude-\w+-4(-[0-5])?(-\d{8})?$", continues="prefill"),
    _Known(host=r"(^|\.)anthropic\.com$", continues="none"),
    _Known(host=r"(^|\.)deepseek\.com$", url=r"/beta(/|$)", continues="prefix"),
    _Known(host=r"(^|\.)deepseek\.com$", continues="none"),
    _Known(host=r"(^|\.)mistral\.ai$", continues="prefix"),
    _Known(host=r"(^|\.)groq\.com$", continues="prefill"),
    _Known(host=r"(^|\.)(googleapis\.com|x\.ai|together\.(ai|xyz)|fireworks\.ai)$", continues="none"),
    _Known(host=r"(^|\.)openrouter\.ai$", model=r"^openai/|^anthropic/claude-.*(4\.[6-9]|-5)", continues="none"),
    _Known(host=r"(^|\.)openrouter\.ai$", continues=None),
)


def _find_known(base_url: str, model: str) -> _Known | None:
    host = urlsplit(base_url).hostname or ""
    for known in _KNOWN:
        if re.search(known.host, host) and re.search(known.url, base_url) and re.search(known.model, model):
            return known
    return None


def look_up(base_url: str, model: str) -> Capability | None:
    """The entry of the table; None where only a probe can tell."""
    known = _find_known(base_url, model)
    if known is None or known.continues is None:
        return None
    return Capability(continues=known.continues, why=f"known of {host_of(base_url)}", echoes=False)


def is_hosted(base_url: str, model: str) -> bool:
    """Whether the endpoint is one of the table, which take no options beyond OpenAI's own."""
    return _find_known(base_url, model) is not None


# The probe

PROBE_TOKENS = 3
"""So few that an answer that begins anew can't reach the 4, but an echo followed by a continuation can."""

_COUNTED = "1, 2, 3,"
PROBE = (
    Message(role="user", content="Count from 1 to 10: numbers only, with a comma and a space between them."),
    Message(role="assistant", content=_COUNTED),
)


PROBE_MODES: Sequence[ProbeMode] = ("flag", "prefill")


async def probe(ask: Callable[[ProbeMode], Awaitable[str]], modes: Sequence[ProbeMode] = PROBE_MODES) -> Capability:
    """Whether the endpoint continues `1, 2, 3,`: at most a call for each mode of `ask`, which sends PROBE and gives the
    answer.

    The next is made only if the one before is rejected. Other errors than RequestRejected pass through.
    """
    for mode in modes:
        try:
            answer = await ask(mode)
        except RequestRejected:
            continue
        return _judge(mode, answer)
    return Capability(continues="none", why="probe: a trailing assistant message was rejected")


def _judge(mode: ProbeMode, answer: str) -> Capability:
    echoes = answer.startswith(_COUNTED)
    # a new turn would say "4" without a space: a clever model continues counting even where the turn was closed
    if re.match(r"\s+4\b", answer.removeprefix(_COUNTED)):
        return Capability(
            continues=mode, why=f"probe: continued {_COUNTED!r} with {answer[:40]!r}", echoes=echoes, is_seen=True
        )
    return Capability(continues="none", why=f"probe: did not continue {_COUNTED!r}, said {answer[:40]!r}")


# Results on disk

KEPT = timedelta(days=30)


class _Entry(msgspec.Struct, kw_only=True):
    continues: Continues
    why: str
    echoes: bool | None = None
    probed: date


class _File(msgspec.Struct, kw_only=True):
    version: int = 1
    entries: dict[str, _Entry] = {}


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(slots=True, kw_only=True)
class Capabilities:
    """Probe results of a process and its predecessors, in a JSON file of a few lines. An entry counts for 30 days.

    A file that can't be read or written only means that endpoints are probed again.
    """

    path: Path = field(default_factory=lambda: Path(platformdirs.user_cache_dir("stairstream")) / "capabilities.json")
    today: Callable[[], date] = _today
    _entries: dict[str, _Entry] | None = None
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def get(self, base_url: str, model: str) -> Capability | None:
        """The result of a probe in the last 30 days."""
        if self._entries is None:
            self._entries = load_json(self.path, _File).entries
        entry = self._entries.get(_key(base_url, model))
        if entry is None or self.today() - entry.probed > KEPT:
            return None
        can = entry.continues != "none"
        return Capability(continues=entry.continues, why=entry.why, echoes=entry.echoes, is_seen=can)

    async def settle(
        self,
        base_url: str,
        model: str,
        ask: Callable[[ProbeMode], Awaitable[str]],
        is_fresh: bool = False,
        modes: Sequence[ProbeMode] = PROBE_MODES,
    ) -> Capability:
        """The known capability, or one found out now: however many ask, one probe at a time per endpoint and model.

        `is_fresh` probes even if there is a result. Errors of `ask` other than RequestRejected pass through.
        """
        async with self._locks.setdefault(_key(base_url, model), asyncio.Lock()):
            found = None if is_fresh else self.get(base_url, model)
            if found is None:
                found = await probe(ask, modes)
                self.put(base_url, model, found)
        return found

    def put(self, base_url: str, model: str, capability: Capability) -> None:
        """Keep a result; other processes' results stay."""
        entry = _Entry(
            continues=capability.continues, why=capability.why, echoes=capability.echoes, probed=self.today()
        )
        kept = load_json(self.path, _File).entries
        self._entries = {**(self._entries or {}), **kept, _key(base_url, model): entry}
        store_json(self.path, _File(entries=self._entries))


def _key(base_url: str, model: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{host_of(base_url)}{parts.path.rstrip('/')} {model}"
