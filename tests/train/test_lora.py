"""Adapters: they alone learn and are kept, and what is exported computes what was trained."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from torch.distributed.checkpoint.filesystem import FileSystemReader  # noqa: E402

from stairstream.backends.extras import require  # noqa: E402
from stairstream.backends.torch.adapter import add_adapter  # noqa: E402
from stairstream.core.errors import ConfigError, MissingExtra  # noqa: E402
from stairstream.train.checkpoints import Checkpoints, TrainState  # noqa: E402
from stairstream.train.config import Lora, Parallel  # noqa: E402
from stairstream.train.lora import add_adapters, export_adapter, find_targets, identify_base, merge  # noqa: E402
from stairstream.train.step import Size, make_optimizer, nll_of  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.test_processes import exported, run_together  # noqa: E402
from tests.train.test_run import losses, run_until  # noqa: E402
from tests.train.tiny import ALONE, CPU, losses_of, make_row, make_start, run_alone  # noqa: E402

STAGE = {"steps": 4, "epochs": None}
LORA = {"rank": 4, "alpha": 8}
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4}  # so that `tp` cuts no block of a base


def compute(network: Any) -> Any:
    with torch.no_grad():
        return network.eval()(torch.tensor([[5, 9, 11, 30, 4]])).logits


def test_adapters_begin_as_if_they_were_not_there_and_alone_learn() -> None:
    network = make_network()
    plain, base = compute(network), identify_base(network)
    add_adapters(network, Lora(rank=4, targets=("q_proj", "down_proj")), "float32")
    assert torch.equal(compute(network), plain)
    learning = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert learning and all(".lora_" in name for name in learning)
    assert {name.split(".")[-4] for name in learning} == {"q_proj", "down_proj"}
    assert (Size.of(make_network()).passes, Size.of(network).passes) == (3, 2)
    assert base == identify_base(make_network())
    assert base != identify_base(make_network(1))


def test_what_is_merged_computes_the_same() -> None:
    network, plain = make_network(), make_network()
    lora = Lora(rank=4, alpha=8)
    add_adapters(network, lora, "float32")
    for name, weight in network.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    merged = merge(network.state_dict(), lora)
    assert merged.keys() == plain.state_dict().keys()
    before = compute(plain)
    plain.load_state_dict(merged)
    torch.testing.assert_close(compute(plain), compute(network))
    assert not torch.allclose(before, compute(plain))


def test_layers_beside_which_adapters_learn_are_half_as_large() -> None:
    network = make_network()
    add_adapters(network, Lora(), "bfloat16")
    halves = {name.split(".")[-3] for name, weight in network.named_parameters() if weight.dtype == torch.bfloat16}
    assert halves == set(find_targets(make_network(), Lora()))
    assert all(weight.dtype == torch.float32 for weight in network.parameters() if weight.requires_grad)


def test_targets_that_are_not_there_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"lora.targets: the model's layers have no 'qproj'; they have q_proj, k_proj"
    ):
        find_targets(make_network(), Lora(targets=("qproj",)))
    assert find_targets(make_network(), Lora(targets=("self_attn.q_proj",))) == ["self_attn.q_proj"]


def test_without_peft_adapters_are_refused() -> None:
    with pytest.raises(
        MissingExtra, match=r"train needs not_there; install it with: pip install 'stairstream\[train\]'"
    ):
        require("train", ["not_there"], "train")


@pytest.mark.slow
def test_checkpoints_hold_adapters_alone_also_where_weights_are_tied(tmp_path: Path) -> None:
    network, config = make_network(tie_word_embeddings=True), make_config(tmp_path)
    add_adapters(network, Lora(rank=4), "float32")
    with closing(Checkpoints(config, ALONE, "base")) as checkpoints:
        checkpoints.save(network, make_optimizer(network, config.stages[0]), TrainState(step=1))
    folder = config.folder / "checkpoints" / "00-0000001" / "weights"
    names = set(FileSystemReader(folder).read_metadata().state_dict_metadata)
    assert names == {name for name, weight in network.named_parameters() if weight.requires_grad}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_torch_backend_takes_an_exported_adapter(tmp_path: Path) -> None:
    network, lora = make_start().network, Lora(rank=4, alpha=8)
    add_adapters(network, lora, "float32")
    for name, weight in network.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    export_adapter(network, network.state_dict(), lora, "tiny", tmp_path / "adapter")
    served = make_start().network
    add_adapter(served, tmp_path / "adapter")
    torch.testing.assert_close(compute(served), compute(network))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers so
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_peft_loads_the_adapter_and_the_merged_model_is_the_same(tmp_path: Path, precision: str) -> None:
    write_data(tmp_path)
    start, said = run_alone(make_config(tmp_path, {"steps": 8, "epochs": None}, lora=LORA, precision=precision))
    assert losses_of(said)[-1] < losses_of(said)[0]
    loaded = peft.PeftModel.from_pretrained(make_start().network, tmp_path / "out" / "adapter")
    if precision == "float32":  # else the base was rounded
        torch.testing.assert_close(compute(loaded), compute(start.network), atol=1e-5, rtol=1e-5)
    merged, ours = loaded.merge_and_unload().state_dict(), exported(tmp_path / "out")
    assert merged.keys() == ours.keys()
    for name in ours:
        torch.testing.assert_close(ours[name].float(), merged[name], atol=5e-3, rtol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"dropout": 0.2}], ids=["plain", "dropout"])
def test_a_run_of_adapters_goes_on_with_the_same_losses_to_the_bit(tmp_path: Path, keys: dict[str, float]) -> None:
    write_data(tmp_path)
    lora = {**LORA, **keys}
    _, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "whole"), lora=lora, memory="full"))
    config = make_config(tmp_path, STAGE, lora=lora, save_every=2, memory="none")
    run_until(config, 3)
    start, rest = run_alone(config)
    assert losses(rest) == losses(said)[2:]
    saved = sum(file.stat().st_size for file in (tmp_path / "out" / "checkpoints" / "01-0000000" / "weights").iterdir())
    whole = sum(weight.nbytes for weight in start.network.parameters())
    assert saved < whole / 2
    with pytest.raises(ConfigError, match="checkpoints of a run with another base model"):
        run_alone(config, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "parallel, base, kind",
    [
        *(({"dp": 2}, None, "llama"), ({"tp": 2}, None, "qwen2"), ({"pp": 2}, None, "llama")),
        *(({"dp": 2}, "int8", "llama"), ({"tp": 2}, "nf4", "qwen2"), ({"tp": 2, "pp": 2}, "nf4", "llama")),
        ({"dp": 2, "tp": 2}, "int8", "llama"),
    ],
    ids=str,
)
def test_several_processes_learn_the_adapters_that_one_learns(
    tmp_path: Path, parallel: dict[str, int], base: str | None, kind: str
) -> None:
    """The rate is small: AdamW's first steps move a weight by all of it even if its gradient is only rounding."""
    write_data(tmp_path)
    keys: dict[str, Any] = WIDE if kind == "llama" else {**WIDE, "kind": kind}
    stage, lora = STAGE | {"lr": 1e-3, "sequence_tokens": 512}, {**LORA, "base": base}
    config = make_config(tmp_path, stage, output=str(tmp_path / "one"), lora=lora)
    _, said = run_alone(config, **keys)
    config = make_config(tmp_path, stage, output=str(tmp_path / "several"), lora=lora, parallel=parallel)
    assert run_together(config, tmp_path, **keys) == pytest.approx(losses_of(said), rel=1e-6)
    one, several = exported(tmp_path / "one"), exported(tmp_path / "several")
    assert one.keys() == several.keys()
    for name in one:
        torch.testing.assert_close(several[name], one[name], atol=2e-4, rtol=1e-3)
    _, rest = run_alone(replace(config, parallel=Parallel()), **keys)
    assert rest == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own parts
@pytest.mark.parametrize("base", [None, "nf4"], ids=str)
def test_layers_with_adapters_are_traced_with_the_same_loss_and_gradients(base: Any) -> None:
    found = []
    for backend in (None, "aot_eager"):  # it traces and divides as inductor does, and compiles nothing
        network = make_network(1).train()
        add_adapters(network, Lora(rank=4, base=base), "float32")
        for layer in network.model.layers:
            if backend is not None:
                layer.compile(backend=backend)
        loss = nll_of(network, make_row(20, 12), CPU)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        found.append([loss.detach(), *(one.grad for one in network.parameters() if one.requires_grad)])
    torch.compiler.reset()
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own parts
@pytest.mark.parametrize("base", [None, "nf4"], ids=str)
def test_compiled_layers_learn_the_same_adapters(tmp_path: Path, base: str | None) -> None:
    write_data(tmp_path)
    lora = {**LORA, "base": base}
    stage = STAGE | {"steps": 3, "lr": 1e-3}
    _, plain = run_alone(make_config(tmp_path, stage, output=str(tmp_path / "plain"), lora=lora))
    _, compiled = run_alone(make_config(tmp_path, stage, output=str(tmp_path / "compiled"), lora=lora, compile=True))
    assert losses_of(compiled) == pytest.approx(losses_of(plain), rel=1e-5)
