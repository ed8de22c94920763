"""An adapter for vLLM: every request is made with it; what does not fit is refused as on torch, before vLLM starts."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.adapter import add_adapter  # noqa: E402
from stairstream.backends.vllm.adapter import check_adapter  # noqa: E402
from stairstream.backends.vllm.backend import Vllm, VllmBackend  # noqa: E402
from stairstream.config.backends.vllm import VllmKeys  # noqa: E402
from stairstream.config.schema import parse_config  # noqa: E402
from stairstream.core.errors import ConfigError, ModelUnusable  # noqa: E402
from stairstream.core.graph import Agent, Sampling  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import Chunk  # noqa: E402
from tests.backends.torch.adapters import write_adapter  # noqa: E402
from tests.backends.torch.tiny import make_network, make_tokens  # noqa: E402
from tests.backends.vllm.library import Llm, install  # noqa: E402


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a tiny model."""
    folder = tmp_path / "model"
    make_network(1).save_pretrained(folder)
    return folder


def test_one_that_fits_is_known_without_any_weight(tmp_path: Path, model: Path) -> None:
    (model / "model.safetensors").unlink()
    write_adapter(tmp_path, use_rslora=True)
    lora = check_adapter(tmp_path, model)
    assert (lora.folder, lora.rank, lora.scale) == (tmp_path, 2, 8 / 2**0.5)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"name": "base_model.model.model.layers.9.self_attn.q_proj"}, "is of another model"),
        ({"name": "base_model.model.language_model.model.layers.1.self_attn.q_proj"}, "is of another model"),
        ({"wide": 16}, "is of another model"),
        ({"r": 3}, "are not of its r, 3"),
        ({"use_dora": True}, "is not a plain LoRA"),
        ({"peft_type": "IA3"}, "is not a plain LoRA"),
        ({"content": b"{}"}, "can't be read"),
        ({"content": None}, "can't be read"),
    ],
)
def test_what_does_not_fit_is_refused_in_the_words_of_torch(
    tmp_path: Path, model: Path, keys: dict[str, Any], problem: str
) -> None:
    weights = tmp_path / "adapter_model.safetensors"
    write_adapter(tmp_path, **{key: value for key, value in keys.items() if key != "content"})
    match keys.get("content", b""):
        case None:
            weights.unlink()
        case content if content:
            weights.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as ours:
        check_adapter(tmp_path, model)
    with pytest.raises(ConfigError) as theirs:
        add_adapter(make_network(1), tmp_path)
    assert str(ours.value) == str(theirs.value)
    assert "\n" not in str(ours.value)


def test_a_model_of_an_unknown_kind_is_refused(tmp_path: Path, model: Path) -> None:
    write_adapter(tmp_path)
    (model / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ModelUnusable, match="an adapter can't be added to"):
        check_adapter(tmp_path, model)


def test_a_folder_without_an_adapter_is_refused_before_anything_is_loaded(tmp_path: Path, model: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"adapter: there is no adapter_config.json in"):
            Vllm(model, adapter=folder)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[Llm]:
    """The models that vLLM loads. It refuses an adapter in a folder `bad`, and finds no layer of one in `unused`."""

    def load(lora: Any) -> None:
        if Path(lora.lora_path).name == "bad":
            raise Exception("Call to add_lora method failed: expected other modules\nand more")

    monkeypatch.setattr("stairstream.backends.vllm.backend.require", lambda *_: None)
    return install(
        monkeypatch,
        make_tokens()._tokenizer,
        score=lambda lora: -1.0 if lora is None or Path(lora.lora_path).name == "unused" else -2.0,
        loads=load,
    )


def adapter_in(folder: Path, **keys: Any) -> Path:
    folder.mkdir()
    write_adapter(folder, **keys)
    return folder


@pytest.mark.parametrize("reads", [(), ("p",)])
def test_every_request_of_a_session_is_made_with_it(
    tmp_path: Path, model: Path, library: list[Llm], reads: tuple[str, ...]
) -> None:
    async def main() -> None:
        async with aclosing(Vllm(model, adapter=adapter_in(tmp_path / "adapter"))) as vllm:
            await vllm.start()
            agent = Agent(name="a", model="m", reads=reads, sampling=Sampling(max_tokens=1))
            session = await VllmBackend(vllm, "m").open(agent, question("Why?"))
            await session.read([Chunk(agent=name, text="So.", is_final=True) for name in reads])
            async for _ in session.write(1):
                pass
            await session.aclose()

    asyncio.run(main())
    (llm,) = library
    (lora,) = llm.loaded
    assert lora.lora_path == str(tmp_path / "adapter")
    assert llm.requests == [lora, None, lora], "the first two show that it is used"
    assert (llm.args["enable_lora"], llm.args["max_lora_rank"]) == (True, 8)


def test_without_one_vllm_makes_no_room_for_any(model: Path, library: list[Llm]) -> None:
    async def main() -> None:
        async with aclosing(Vllm(model)) as vllm:
            await vllm.start()

    asyncio.run(main())
    assert "enable_lora" not in library[0].args and library[0].requests == []


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("bad", r"vllm refuses .*bad: Call to add_lora method failed: expected other modules$"),
        ("unused", r"vllm writes with .*unused what it writes without"),
    ],
)
def test_what_vllm_can_not_use_is_an_error_and_its_processes_end(
    tmp_path: Path, model: Path, library: list[Llm], name: str, problem: str
) -> None:
    vllm = Vllm(model, adapter=adapter_in(tmp_path / name))
    with pytest.raises(ConfigError, match=f"adapter: {problem}"):
        asyncio.run(vllm.start())
    assert library[0].is_shut_down


def test_what_does_not_fit_is_refused_before_vllm_starts(tmp_path: Path, model: Path, library: list[Llm]) -> None:
    for number, (keys, problem) in enumerate(
        [({"wide": 16}, "is of another model"), ({"rank": 321}, "no more than 320")]
    ):
        with pytest.raises(ConfigError, match=problem):
            asyncio.run(Vllm(model, adapter=adapter_in(tmp_path / str(number), **keys)).start())
    assert library == []


def test_a_configuration_names_it() -> None:
    assert parse_config(
        "models: {m: {backend: vllm, model: ./base, adapter: ./adapter}}\npipelines: {p: {topology: single, model: m}}",
        "c.yaml",
        {},
    ).models["m"].keys == VllmKeys(model="./base", adapter="./adapter")
