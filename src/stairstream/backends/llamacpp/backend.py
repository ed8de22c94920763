"""Embedded llama.cpp as a backend: one process with one model, shared by every backend and session on it."""

from pathlib import Path

from stairstream.backends.gguf import check_gguf
from stairstream.backends.llamacpp.server import LlamaServer, ServerSettings
from stairstream.backends.llamacpp.session import SETTINGS, LlamaCppSession
from stairstream.backends.lora import Lora
from stairstream.backends.slots import Slots
from stairstream.backends.threads import choose_threads
from stairstream.backends.words import OwnWords
from stairstream.core.context import Context
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation
from stairstream.core.session import Setting, Takes

DEFAULT_SLOTS = 4
DEFAULT_CONTEXT_TOKENS = 4096
DEFAULT_BATCH_TOKENS = 64
"""The prefill tokens of one pass: while it lasts no other slot of this llama.cpp gets a token. 256 compute a fifth more
cheaply, and let all of them wait four times as long."""


class LlamaCpp:
    """One llama.cpp with one GGUF. Loads on `start` or the first `open`.

    `slots` is how many sessions it holds at once, each with `context_tokens` of its own; `threads` None: one per core;
    `batch_tokens` is how much prefill one pass takes; `drafts_ngrams` guesses ahead what an answer quotes.
    `adapter` is a LoRA for the model: a GGUF file, or a folder that peft wrote.
    Raises ConfigError or ModelUnusable at once if a file is none.
    """

    def __init__(
        self,
        path: Path,
        *,
        slots: int = DEFAULT_SLOTS,
        context_tokens: int | None = None,
        threads: int | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        drafts_ngrams: bool = False,
        adapter: Path | None = None,
        is_verbose: bool = False,
    ) -> None:
        check_gguf(path)
        if adapter is not None:
            check_gguf(adapter) if adapter.is_file() else Lora.read(adapter)
        self.server = LlamaServer(
            ServerSettings(
                path=path.resolve(),
                slots=slots,
                context_tokens=context_tokens or DEFAULT_CONTEXT_TOKENS,
                batch_tokens=batch_tokens,
                threads=threads or choose_threads(),
                drafts_ngrams=drafts_ngrams,
                adapter=None if adapter is None else adapter.resolve(),
                is_verbose=is_verbose,
            )
        )
        self.slots = Slots(slots)
        self._path = path
        self._wanted_tokens = context_tokens

    @property
    def context_tokens(self) -> int:
        """The tokens that one session's context window holds; exact once the model is loaded."""
        return self.server.context_tokens

    async def start(self) -> None:
        """Load the model; returns at once if it is loaded.

        Raises MissingExtra, ModelUnusable, and ConfigError if the model was not made for so much context.
        """
        await self.server.start()
        if self._wanted_tokens is not None and self.context_tokens < self._wanted_tokens:
            await self.aclose()
            raise ConfigError(
                f"context_tokens: {self._path.name} was trained for {self.context_tokens} tokens of context, "
                f"not {self._wanted_tokens}; ask for less"
            )

    async def aclose(self) -> None:
        """End the process."""
        await self.server.aclose()


class LlamaCppBackend:
    """A model name on an embedded llama.cpp, which stays the caller's to close."""

    # it holds the model to a JSON schema by a grammar
    takes: frozenset[Takes | Setting] = frozenset({"response_format", *SETTINGS})

    def __init__(self, llama: LlamaCpp, model: str) -> None:
        self.model = model
        self.room = llama.slots
        self._llama = llama

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> LlamaCppSession:
        """A session in a slot of its own; `written` are words of the answer to continue from."""
        await self._llama.start()
        server = self._llama.server
        own = OwnWords(await server.tokenize(written))
        context = Context(agent=agent, conversation=conversation, written=written)
        return LlamaCppSession(server, self._llama.slots, context, own)

    async def aclose(self) -> None:
        """Nothing of its own."""
