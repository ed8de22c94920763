"""vLLM in process as a backend: one engine with one model, shared by every backend and session on it."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stairstream.backends.extras import require
from stairstream.backends.gguf import check_gguf
from stairstream.backends.lora import Lora
from stairstream.backends.models import models_folder
from stairstream.backends.slots import Slots
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Takes

if TYPE_CHECKING:
    from stairstream.backends.vllm.engine import Engine
    from stairstream.backends.vllm.session import VllmSession

DEFAULT_SESSIONS = 16
DEFAULT_QUANTUM_TOKENS = 16


class Vllm:
    """One vLLM engine with one model. Loads on `start` or the first `open`.

    `path` is a folder of transformers; of a GGUF file such a folder is made in the cache, in bfloat16. `sessions` is
    how many it runs at once. In the layout `rounds` a stop takes effect after at most `quantum_tokens` words.
    `adapter` is the folder of a LoRA that every answer is written with. `options` are further fields of vLLM's
    AsyncEngineArgs, for those who know them; with `ignores_end` answers have all their tokens, which is for measuring.
    Raises ConfigError or ModelUnusable at once if there is no such model or adapter.
    """

    def __init__(
        self,
        path: Path,
        *,
        sessions: int = DEFAULT_SESSIONS,
        context_tokens: int | None = None,
        quantum_tokens: int = DEFAULT_QUANTUM_TOKENS,
        dtype: Literal["float32", "bfloat16"] | None = None,
        adapter: Path | None = None,
        ignores_end: bool = False,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if adapter is not None:
            Lora.read(adapter)
        if not path.is_dir():
            check_gguf(path)
        self._path = path
        self._context_tokens = context_tokens
        self._quantum_tokens = quantum_tokens
        self._dtype: Literal["float32", "bfloat16"] | None = dtype
        self._adapter = adapter
        self._ignores_end = ignores_end
        self._options = dict(options or {})
        self.slots = Slots(sessions, "vllm engine")
        self._loading = asyncio.Lock()
        self._engine: Engine | None = None

    async def start(self) -> None:
        """Load the model, in a thread; returns at once if it is loaded.

        Raises MissingExtra, ModelUnusable, and ConfigError if the adapter is not for it.
        """
        async with self._loading:
            if self._engine is not None:
                return
            async with AsyncExitStack() as unless_ready:
                engine = await asyncio.to_thread(self._load)
                unless_ready.push_async_callback(engine.aclose)
                await engine.load_adapter()
                self.use(engine)
                unless_ready.pop_all()

    def use(self, engine: "Engine") -> None:
        """Take an engine that runs already."""
        self._engine = engine

    def _load(self) -> "Engine":
        require("the vllm backend", ("vllm", "transformers"), "vllm")
        adapter = None
        if self._adapter is not None:
            from stairstream.backends.vllm.adapter import check_adapter

            adapter = check_adapter(self._adapter, self._path)
        from stairstream.backends.vllm.engine import EngineSettings, start

        settings = EngineSettings(
            folder=unpack_model(self._path),
            sessions=self.slots.count,
            context_tokens=self._context_tokens,
            dtype=self._dtype,
            adapter=adapter,
            ignores_end=self._ignores_end,
            options=self._options,
        )
        return start(settings)

    async def open(self, agent: Agent, conversation: Conversation, written: str) -> "VllmSession":
        """A session on the engine."""
        await self.start()
        from stairstream.backends.vllm.session import VllmSession

        assert self._engine is not None
        return VllmSession(self._engine, self._quantum_tokens, agent, conversation, written)

    async def empty_cache(self) -> None:
        """Forget the prefixes of earlier requests: for measuring."""
        if self._engine is not None:
            await self._engine.empty_cache()

    async def aclose(self) -> None:
        """End the engine's processes."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.aclose()


def unpack_model(path: Path) -> Path:
    """A folder of transformers as it is; of a GGUF file, the folder that is made of it and kept in the cache."""
    if path.is_dir():
        return path
    folder = models_folder() / f"{path.stem}-bfloat16"
    if not (folder / "config.json").is_file():
        from stairstream.backends.in_process.networks import export

        try:
            export(path, folder)
        except OSError as exc:
            raise ConfigError(f"cannot keep the model in {folder}: {exc.strerror or exc}") from exc
    return folder


class VllmBackend:
    """A model name on a vLLM engine, which stays the caller's to close."""

    takes: frozenset[Takes] = frozenset()

    def __init__(self, vllm: Vllm, model: str) -> None:
        self.model = model
        self.room = vllm.slots
        self._vllm = vllm

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "VllmSession":
        """A session; `written` are words of the answer to continue from."""
        return await self._vllm.open(agent, conversation, written)

    async def aclose(self) -> None:
        """Nothing of its own."""
