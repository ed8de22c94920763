"""Models of transformers as a backend: one model with one worker, shared by every backend and session on it."""

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stairstream.backends.extras import require
from stairstream.backends.gguf import check_gguf
from stairstream.backends.lora import AdapterFor, Lora, takes_adapter
from stairstream.backends.threads import choose_threads
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Takes

if TYPE_CHECKING:
    from stairstream.backends.torch.load import Loaded
    from stairstream.backends.torch.session import TorchSession
    from stairstream.backends.torch.worker import Worker


class TorchModel:
    """One model in memory. Loads on `start` or the first `open`; nothing of torch is imported before.

    `path` is a folder of transformers or a GGUF file; `dtype` None takes bfloat16 on a GPU and float32 on a CPU;
    `threads` None takes one per core; `context_tokens` None takes what the model was made for; `adapter` is the folder
    of a LoRA that is added to it, or, if it is for `partial` references alone, stands beside it. Raises ConfigError or
    ModelUnusable at once if a file is none.
    """

    def __init__(
        self,
        path: Path,
        *,
        dtype: Literal["float32", "bfloat16"] | None = None,
        threads: int | None = None,
        context_tokens: int | None = None,
        adapter: Path | None = None,
        adapter_for: AdapterFor = "all",
    ) -> None:
        if adapter is not None:
            Lora.read(adapter)
        if not path.is_dir():
            check_gguf(path)
        self._path = path
        self._dtype: Literal["float32", "bfloat16"] | None = dtype
        self._threads = threads
        self._context_tokens = context_tokens
        self._adapter = adapter
        self._adapter_for: AdapterFor = adapter_for
        self._loading = asyncio.Lock()
        self._random = random.Random()
        self._loaded: Loaded | None = None
        self._worker: Worker | None = None

    async def start(self) -> None:
        """Load the model; returns at once if it is loaded. Raises MissingExtra, ModelUnusable."""
        async with self._loading:
            if self._worker is None:
                self.use(await asyncio.to_thread(self._load))

    def use(self, loaded: "Loaded") -> None:
        """Take a model that is in memory already."""
        from stairstream.backends.torch.worker import Worker

        self._loaded = loaded
        self._worker = Worker(loaded.model, loaded.tokens.end_ids, threads=self._threads or choose_threads())

    def _load(self) -> "Loaded":
        require("the torch backend", ("torch", "transformers"), "torch")
        from stairstream.backends.torch.load import load

        loaded = load(self._path, self._dtype, self._adapter, self._adapter_for)
        most = loaded.model.context_tokens
        if self._context_tokens is not None and self._context_tokens > most:
            raise ConfigError(f"{self._path} holds at most {most} tokens, not context_tokens {self._context_tokens}")
        return loaded

    async def open(self, agent: Agent, conversation: Conversation, written: str) -> "TorchSession":
        """A session in the model's batch."""
        await self.start()
        from stairstream.backends.torch.sampling import Sampler
        from stairstream.backends.torch.session import TorchSession

        assert self._loaded is not None and self._worker is not None
        seed = agent.sampling.seed
        sampler = Sampler(
            agent.sampling,
            self._random.getrandbits(63) if seed is None else seed,
            self._loaded.temperature,
            self._loaded.top_p,
        )
        context_tokens = self._context_tokens or self._loaded.model.context_tokens
        return TorchSession(
            self._worker,
            self._loaded.tokens,
            context_tokens,
            agent,
            conversation,
            written,
            sampler,
            is_adapted=self._adapter_for != "all" and takes_adapter(agent, self._adapter_for),
        )

    async def aclose(self) -> None:
        """End the worker and let go of the model."""
        worker, self._worker, self._loaded = self._worker, None, None
        if worker is not None:
            await asyncio.to_thread(worker.close)


class TorchBackend:
    """A model name on a model in memory, which stays the caller's to close."""

    room = None  # any number of sessions: they share the machine's memory
    takes: frozenset[Takes] = frozenset()

    def __init__(self, torch: TorchModel, model: str) -> None:
        self.model = model
        self._torch = torch

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> "TorchSession":
        """A session with a cache of its own; `written` are words of the answer to continue from."""
        return await self._torch.open(agent, conversation, written)

    async def aclose(self) -> None:
        """Nothing of its own."""
