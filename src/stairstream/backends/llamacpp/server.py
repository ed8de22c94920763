"""One llama.cpp in a process of its own, and the requests to it: load, tokenize, lay out, complete.

A process of its own, because loading holds the interpreter's lock for seconds, because a broken model file may end the
process that loads it, and because OpenMP's settings are read once, from the environment. It listens on loopback, with a
password that only we know; closing a connection is how a request is cancelled.
"""

import asyncio
import os
import secrets
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import aiohttp
import msgspec

from stairstream.backends.full import says_too_long
from stairstream.backends.llamacpp.adapter import write_adapter
from stairstream.backends.threads import with_little_spin
from stairstream.core.errors import (
    ContextTooLong,
    MissingExtra,
    ModelUnusable,
    RequestRejected,
    ServerFailed,
    StreamCut,
)
from stairstream.core.messages import Message, as_dicts
from stairstream.core.sse import SseDecoder

_CHILD = Path(__file__).with_name("child.py")
_END_S = 0.5
_NGRAM_TOKENS = 4
_DRAFT_TOKENS = 8
"""After this many tokens that stood in the prompt before, so many that followed them there are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The options of a llama.cpp server; `context_tokens` is per slot, `batch_tokens` the most that one pass computes.

    `drafts_ngrams`: an answer that quotes its prompt is guessed ahead from it (n-gram speculation), and checked.
    `adapter` is a LoRA for the model: a GGUF file, or a folder of peft.
    """

    path: Path
    slots: int
    context_tokens: int
    batch_tokens: int
    threads: int
    adapter: Path | None = None
    drafts_ngrams: bool = False
    is_verbose: bool = False


class Timings(msgspec.Struct):
    """Counts of one completion so far: prompt tokens taken from the cache, computed, and tokens written."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class _Failure(msgspec.Struct):
    message: str = ""


class Event(msgspec.Struct):
    """One event of a completion's stream. `tokens` holds only the last token of those that made `content`."""

    content: str = ""
    tokens: list[int] = []
    tokens_predicted: int = 0
    timings: Timings | None = None
    stop: bool = False
    stop_type: str = ""
    error: _Failure | None = None


class Completion:
    """One completion in flight: iterate `events`, or `close` it from anywhere in the same loop."""

    def __init__(self, http: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        self._http = http
        self._body = body
        self._response: aiohttp.ClientResponse | None = None
        self.is_closed = False

    def close(self) -> None:
        """Cancel it: llama.cpp drops the work after the pass that it is in."""
        self.is_closed = True
        if self._response is not None:
            self._response.close()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Events as they come; ends early and quietly after `close`."""
        try:
            async with self._http.post("/completion", json=self._body) as self._response:
                await _check(self._response)
                decoder = SseDecoder()
                async for data in self._response.content.iter_any():
                    for block in decoder.feed(data):
                        if self.is_closed:
                            return
                        event = msgspec.json.decode(block, type=Event)
                        yield event
                        if event.stop:
                            return
            if not self.is_closed:
                raise StreamCut("llama.cpp broke off in the middle of an answer")
        except aiohttp.ClientError:
            if not self.is_closed:
                raise
        finally:
            self.close()


class LlamaServer:
    """llama.cpp with one model. `start` before all else, `aclose` at the end; one event loop."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._process: Process | None = None
        self._http: aiohttp.ClientSession | None = None
        self._log: IO[bytes] | None = None
        self._starting = asyncio.Lock()
        self._is_in_doubt = False
        self.context_tokens = settings.context_tokens
        self.takes_system = True

    @property
    def is_running(self) -> bool:
        """Whether the model is loaded and its process alive."""
        return self._http is not None and self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Load the model, if it is not loaded. Raises MissingExtra, ModelUnusable."""
        async with self._starting:
            if self._is_in_doubt:
                await self._await_end()
            if self.is_running:
                return
            await self.aclose()
            if find_spec("xllamacpp") is None:
                raise MissingExtra("llama.cpp is not installed; install it with: pip install 'stairstream[local]'")
            try:
                await self._start()
            except BaseException:
                await self.aclose()
                raise

    async def _await_end(self) -> None:
        """After a lost connection: if it was lost because the process died, its end shows in a moment."""
        self._is_in_doubt = False
        if self._process is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _END_S)

    async def _start(self) -> None:
        key = secrets.token_urlsafe()
        with tempfile.TemporaryDirectory() as room:
            adapter = self._settings.adapter
            if adapter is not None and adapter.is_dir():
                adapter = await asyncio.to_thread(write_adapter, adapter, self._settings.path, Path(room))
            answer = await self._spawn(_as_dict(self._settings, key, adapter))
        if "url" not in answer:
            raise ModelUnusable(f"llama.cpp cannot load {self._settings.path}: {await self._reason(answer)}")
        self._http = aiohttp.ClientSession(
            answer["url"],
            headers={"Authorization": f"Bearer {key}"},
            timeout=aiohttp.ClientTimeout(total=None),
            # its server may close a kept connection just as the next request goes out on it
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
        )
        await self._read_props(self._http)

    async def _spawn(self, settings: dict[str, str | int | bool | None]) -> dict[str, str]:
        """Start the process; returns what it says once the model is loaded, or can't be."""
        self._log = tempfile.TemporaryFile()
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_CHILD)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=None if self._settings.is_verbose else self._log,
            env=with_little_spin(os.environ),
            start_new_session=True,  # Ctrl-C is for us; we end it
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        line = await process.stdout.readline()
        return msgspec.json.decode(line, type=dict[str, str]) if line else {}

    async def _read_props(self, http: aiohttp.ClientSession) -> None:
        with self._translated():
            async with http.get("/props") as response:
                props = msgspec.json.decode(await response.read())
        self.context_tokens = int(props["default_generation_settings"]["n_ctx"])
        self.takes_system = bool(props.get("chat_template_caps", {}).get("supports_system_role", True))

    async def tokenize(self, text: str, *, is_template: bool = False, is_first: bool = False) -> tuple[int, ...]:
        """Token ids of a text. Only in the pieces of a template do names of special tokens become special tokens."""
        if not text and not is_first:
            return ()
        body = {"content": text, "parse_special": is_template, "add_special": is_first}
        return tuple((await self._post("/tokenize", body))["tokens"])

    async def apply_template(self, messages: Sequence[Message]) -> str:
        """The text that the model's chat template makes of messages, ready for the assistant to begin."""
        text = (await self._post("/apply-template", {"messages": as_dicts(messages)}))["prompt"]
        assert isinstance(text, str)
        return text

    def complete(self, body: dict[str, Any]) -> Completion:
        """A completion; nothing is sent before its events are asked for."""
        if self._http is None:
            raise ServerFailed("llama.cpp is not running")
        return Completion(self._http, body)

    async def stream(self, completion: Completion) -> AsyncGenerator[Event, None]:
        """The events of a completion, with the process's end told as such."""
        with self._translated():
            async with aclosing(completion.events()) as events:
                async for event in events:
                    if event.error is not None:
                        raise ServerFailed(f"llama.cpp failed: {event.error.message}")
                    yield event

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self._http is None:
            raise ServerFailed("llama.cpp is not running")
        with self._translated():
            async with self._http.post(path, json=body) as response:
                await _check(response)
                answer: dict[str, Any] = msgspec.json.decode(await response.read())
                return answer

    async def aclose(self) -> None:
        """End the process; whatever it was doing is lost."""
        http, self._http = self._http, None
        process, self._process = self._process, None
        log, self._log = self._log, None
        if process is not None and process.returncode is None:
            process.kill()
        if http is not None:
            await http.close()
        if process is not None:
            await process.communicate()
        if log is not None:
            log.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.ClientError as exc:
            self._is_in_doubt = True
            raise ServerFailed(
                f"llama.cpp does not answer any more: {self._last_words() or type(exc).__name__}"
            ) from exc

    async def _reason(self, answer: dict[str, str]) -> str:
        """The reason why it did not start, in one line."""
        assert self._process is not None
        code = None if "error" in answer else await self._process.wait()
        return self._last_words() or answer.get("error") or f"its process ended with code {code}"

    def _last_words(self) -> str:
        """The first error that llama.cpp wrote about a model, else the last of what it wrote."""
        if self._log is None:
            return ""
        self._log.seek(0)
        lines = [line for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        found = next((line for line in lines if "error loading model" in line), lines[-1] if lines else "")
        return found.rpartition("error loading model: ")[2].strip()


async def _check(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    body = await response.text()
    try:
        text = msgspec.json.decode(body, type=Event).error
    except msgspec.DecodeError:
        text = None
    what = f"llama.cpp answered {response.status}: {text.message if text else body[:200]!r}"
    if response.status >= 500:
        raise ServerFailed(what)
    raise ContextTooLong(what) if says_too_long(what) else RequestRejected(what)


def _as_dict(settings: ServerSettings, key: str, adapter: Path | None) -> dict[str, str | int | bool | None]:
    return {
        "path": str(settings.path),
        "adapter": None if adapter is None else str(adapter),
        "slots": settings.slots,
        "context_tokens": settings.context_tokens,
        "batch_tokens": settings.batch_tokens,
        "threads": settings.threads,
        "drafts_ngrams": settings.drafts_ngrams,
        "ngram_tokens": _NGRAM_TOKENS,
        "draft_tokens": _DRAFT_TOKENS,
        "verbosity": 3 if settings.is_verbose else 1,
        "api_key": key,
    }
