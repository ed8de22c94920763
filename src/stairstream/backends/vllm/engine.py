"""A running vLLM engine: requests that can be continued, and its errors as ours. The one file that imports vllm."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

# vLLM takes these from the environment only, when it is imported; a user who has set them knows better
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from transformers import AutoTokenizer
from vllm import SamplingParams
from vllm.config.lora import MaxLoRARanks
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.engine.protocol import StreamingInput
from vllm.exceptions import VLLMClientError
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from stairstream.backends.full import says_too_long
from stairstream.backends.in_process.tokens import Tokens
from stairstream.backends.lora import Lora
from stairstream.backends.vllm.turns import Output
from stairstream.core.errors import ConfigError, ContextTooLong, ModelUnusable, RequestRejected, ServerFailed
from stairstream.core.graph import Sampling

_TEMPERATURE = 0.8
"""The default where neither the agent nor the model sets one; as llama.cpp."""

_CPU_BLOCK_TOKENS = 32
"""Block size: a prefix cache keeps whole blocks; vLLM's 128 for CPUs would recompute up to 127 tokens per update."""

_PROBED_TOKENS = 8
"""The length of the text that shows whether an adapter is used: vLLM says nothing of layers that it does not find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """The settings to start an engine with. `options` are fields of AsyncEngineArgs that override what we choose."""

    folder: Path
    sessions: int
    context_tokens: int | None
    dtype: Literal["float32", "bfloat16"] | None
    adapter: Lora | None
    ignores_end: bool
    options: Mapping[str, object]


class Engine:
    """vLLM with one model, in processes of its own."""

    def __init__(self, llm: Any, tokens: Tokens, adapter: Lora | None, ignores_end: bool) -> None:
        self.tokens = tokens
        self.context_tokens: int = llm.model_config.max_model_len
        self.block_tokens: int = llm.vllm_config.cache_config.block_size
        self._llm = llm
        # a path that is not absolute could be taken for a name on a hub
        self._lora = None if adapter is None else LoRARequest("adapter", 1, str(adapter.folder.resolve()))
        self._unsaid = dict.fromkeys(tokens.special_ids, -100.0) if ignores_end else None
        self._defaults: dict[str, Any] = llm.model_config.get_diff_sampling_param()

    def begin(self, ids: Sequence[int], sampling: Sampling, max_tokens: int, *, is_resumable: bool) -> "Request":
        """A request on a prompt; its first turn begins at once."""
        params = self._params(sampling, max_tokens, 0)
        inputs: asyncio.Queue[Any] | None = asyncio.Queue() if is_resumable else None
        prompt: Any = _feed(inputs) if inputs is not None else TokensPrompt(prompt_token_ids=list(ids))
        name = f"stairstream-{uuid.uuid4().hex}"
        outputs = self._llm.generate(prompt, params, name, lora_request=self._lora)
        request = Request(self, sampling, outputs, inputs)
        if is_resumable:
            request.go_on(ids, max_tokens)
        return request

    def _params(self, sampling: Sampling, max_tokens: int, turn: int) -> Any:
        """A turn's sampling. Each turn draws anew, so that a seed must differ from turn to turn."""
        wishes = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "repetition_penalty": sampling.repetition_penalty,
            "seed": None if sampling.seed is None else sampling.seed + turn,
        }
        known = {"temperature": _TEMPERATURE, **self._defaults}
        return SamplingParams(
            **{
                **known,
                **{name: value for name, value in wishes.items() if value is not None},
                "max_tokens": max_tokens,
            },
            detokenize=False,
            logit_bias=self._unsaid,
            output_kind=RequestOutputKind.DELTA,
        )

    async def load_adapter(self) -> None:
        """Load the adapter, if there is one, before the first request. Raises ConfigError if vLLM can't use it."""
        if self._lora is None:
            return
        try:
            await self._llm.add_lora(self._lora)
            changes_something = await self._score(self._lora) != await self._score(None)
        except Exception as exc:  # vLLM gives the errors of its processes no other type
            raise ConfigError(f"adapter: vllm refuses {self._lora.lora_path}: {_line(exc)}") from exc
        if not changes_something:
            what = "it changes nothing, or vllm has other names for the layers of this model"
            raise ConfigError(f"adapter: vllm writes with {self._lora.lora_path} what it writes without: {what}")

    async def _score(self, lora: LoRARequest | None) -> float:
        """The logarithm of the probability of the likeliest token after a short text."""
        params = SamplingParams(temperature=0, max_tokens=1, logprobs=1, detokenize=False)
        prompt = TokensPrompt(prompt_token_ids=list(range(_PROBED_TOKENS)))
        name = f"stairstream-{uuid.uuid4().hex}"
        *_, last = [output async for output in self._llm.generate(prompt, params, name, lora_request=lora)]
        return float(last.outputs[0].cumulative_logprob)

    async def empty_cache(self) -> None:
        """Forget the prefixes of earlier requests: for measuring."""
        await self._llm.reset_prefix_cache()

    async def aclose(self) -> None:
        """End its processes; takes seconds, in a thread."""
        llm, self._llm = self._llm, None
        if llm.output_handler is not None:
            llm.output_handler.cancel()  # else it would report the end of the processes as a failure
        await asyncio.to_thread(llm.shutdown)


class Request:
    """One request: its context stays in the cache from turn to turn until it is closed."""

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        outputs: AsyncGenerator[Any, None],
        inputs: "asyncio.Queue[Any] | None",
    ) -> None:
        self._engine = engine
        self._sampling = sampling
        self._outputs = outputs
        self._inputs = inputs
        self._turn = 0
        self._waiting: asyncio.Timeout | None = None
        self._is_broken_off = False
        self.is_open = inputs is not None
        """Whether it takes more turns."""

    def go_on(self, ids: Sequence[int], max_tokens: int) -> None:
        """Begin another turn: what these tokens add to the context, and up to so many words."""
        assert self._inputs is not None
        params = self._engine._params(self._sampling, max_tokens, self._turn)
        self._turn += 1
        # vLLM continues to extend the list that it is given
        prompt = TokensPrompt(prompt_token_ids=list(ids))
        self._inputs.put_nowait(StreamingInput(prompt=prompt, sampling_params=params))

    async def next(self) -> Output | None:
        """The next output of the turn; None after `break_off`. Raises a BackendError when the engine fails."""
        if self._is_broken_off:
            return None
        try:
            async with asyncio.timeout(None) as self._waiting:
                output = await anext(self._outputs)
        except TimeoutError:
            return None
        except StopAsyncIteration:
            raise ServerFailed("vllm ended a request before its last word") from None
        except (VLLMClientError, ValueError) as exc:
            what = f"vllm rejects the request: {_line(exc)}"
            raise (ContextTooLong(what) if says_too_long(what) else RequestRejected(what)) from exc
        except (EngineDeadError, EngineGenerateError) as exc:
            raise ServerFailed(f"vllm has failed: {_line(exc)}") from exc
        finally:
            self._waiting = None
        completion = output.outputs[0]
        reason = completion.finish_reason
        if reason not in ("stop", "length", None):
            raise ServerFailed(f"vllm ended a request with {reason!r}")
        return Output(completion.token_ids, reason, output.num_cached_tokens or 0)

    def break_off(self) -> None:
        """End the turn in flight now; nothing more comes, and the request is to be closed."""
        if self._waiting is not None and not self._is_broken_off:
            self._waiting.reschedule(asyncio.get_running_loop().time())
        self._is_broken_off = True

    def give_up(self) -> None:
        """Between two turns: let the engine forget it, without waiting."""
        self.is_open = False
        if self._inputs is not None:
            self._inputs.put_nowait(None)

    async def aclose(self) -> None:
        """Let the engine forget it."""
        await self._outputs.aclose()


async def _feed(inputs: "asyncio.Queue[Any]") -> AsyncGenerator[Any, None]:
    while (one := await inputs.get()) is not None:
        yield one


def start(settings: EngineSettings) -> Engine:
    """Load a model; blocks for half a minute and more. Raises ModelUnusable, ConfigError."""
    chosen: dict[str, Any] = {
        "model": str(settings.folder),
        "max_num_seqs": settings.sessions,
        "dtype": settings.dtype or "auto",
        "max_model_len": settings.context_tokens,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if current_platform.is_cpu():
        chosen |= {"block_size": _CPU_BLOCK_TOKENS, "enforce_eager": True}
    if settings.adapter is not None:
        chosen |= {"enable_lora": True, "max_lora_rank": _choose_rank(settings.adapter)}
    begun_s = time.monotonic()
    try:
        llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**{**chosen, **settings.options}))
        tokenizer: Any = AutoTokenizer.from_pretrained(settings.folder, local_files_only=True)
    except TypeError as exc:
        raise ConfigError(f"vllm takes no such option: {_line(exc)}") from exc
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as exc:
        after = f"after {time.monotonic() - begun_s:.0f} s"
        raise ModelUnusable(f"vllm can't serve {settings.folder} ({after}): {_line(exc)}") from exc
    return Engine(llm, Tokens(tokenizer, frozenset()), settings.adapter, settings.ignores_end)


def _choose_rank(adapter: Lora) -> int:
    """The least of the ranks for which vLLM makes room that the adapter fits in. Raises ConfigError."""
    ranks = [rank for rank in get_args(MaxLoRARanks) if rank >= adapter.rank]
    if not ranks:
        most = max(get_args(MaxLoRARanks))
        raise ConfigError(f"adapter: {adapter.folder} has the rank {adapter.rank}; vllm takes no more than {most}")
    return int(min(ranks))


def _line(exc: BaseException) -> str:
    """A foreign error's first line."""
    return (str(exc).strip() or type(exc).__name__).partition("\n")[0][:200]
