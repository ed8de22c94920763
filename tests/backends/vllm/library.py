"""As much of the library vllm as `engine.py` asks for: a model that says which requests it was given."""

import importlib.util
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import pytest

ENGINE = "stairstream.backends.vllm.engine"

Score = Callable[[Any], float]
"""The logarithm of a token's probability, under an adapter or None."""


@dataclass(slots=True)
class Llm:
    """A loaded model: `loads` is called with every adapter that it is to load."""

    args: dict[str, Any]
    score: Score
    loads: Callable[[Any], None]
    loaded: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    """The adapter of each request."""
    is_shut_down: bool = False
    output_handler: None = None
    model_config: Any = field(
        default_factory=lambda: SimpleNamespace(max_model_len=1024, get_diff_sampling_param=dict[str, Any])
    )
    vllm_config: Any = field(default_factory=lambda: SimpleNamespace(cache_config=SimpleNamespace(block_size=32)))

    async def add_lora(self, lora: Any) -> bool:
        self.loads(lora)
        self.loaded.append(lora)
        return True

    async def generate(self, prompt: Any, params: Any, name: str, *, lora_request: Any) -> AsyncGenerator[Any, None]:
        assert lora_request is None or lora_request in self.loaded
        self.requests.append(lora_request)
        completion = SimpleNamespace(token_ids=[5], finish_reason="length", cumulative_logprob=self.score(lora_request))
        yield SimpleNamespace(outputs=[completion], num_cached_tokens=0)

    def shutdown(self) -> None:
        self.is_shut_down = True


class _Value(SimpleNamespace):
    """One of vllm's records, made of keywords."""


@dataclass(frozen=True, slots=True)
class _LoraRequest:
    name: str
    number: int
    lora_path: str


def install(
    monkeypatch: pytest.MonkeyPatch, tokenizer: object, score: Score, loads: Callable[[Any], None]
) -> list[Llm]:
    """Import `engine.py` anew, on this library; returns the models that it loads, as it does."""
    made: list[Llm] = []

    def load(args: _Value) -> Llm:
        made.append(Llm(vars(args), score, loads))
        return made[-1]

    class _Error(Exception):
        """None of these is raised."""

    parts: dict[str, dict[str, Any]] = {
        "vllm": {"SamplingParams": _Value},
        "vllm.config": {},
        "vllm.config.lora": {"MaxLoRARanks": Literal[1, 8, 16, 320]},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"AsyncEngineArgs": _Value},
        "vllm.engine.protocol": {"StreamingInput": _Value},
        "vllm.exceptions": {"VLLMClientError": _Error},
        "vllm.inputs": {"TokensPrompt": _Value},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": _LoraRequest},
        "vllm.platforms": {"current_platform": SimpleNamespace(is_cpu=lambda: True)},
        "vllm.sampling_params": {"RequestOutputKind": SimpleNamespace(DELTA="delta")},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": SimpleNamespace(from_engine_args=load)},
        "vllm.v1.engine.exceptions": {"EngineDeadError": _Error, "EngineGenerateError": _Error},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.find_spec(ENGINE)
    assert spec is not None and spec.loader is not None
    engine = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, ENGINE, engine)
    spec.loader.exec_module(engine)
    monkeypatch.setattr(engine, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda *_, **__: tokenizer))
    return made
