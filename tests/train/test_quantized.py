"""Adapters on a base in 8 or 4 bits: how near it is, what it needs, and what is exported."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.config import Bits, Lora, Memory, Parallel  # noqa: E402
from stairstream.train.head import use_loss_head  # noqa: E402
from stairstream.train.lora import add_adapters, merge  # noqa: E402
from stairstream.train.memory import Planner, make_simple  # noqa: E402
from stairstream.train.memory.live import LiveBytes  # noqa: E402
from stairstream.train.memory.planner import count_state, measure_costs  # noqa: E402
from stairstream.train.parallelize import is_split  # noqa: E402
from stairstream.train.probe import make_run  # noqa: E402
from stairstream.train.quantized import QuantizedLinear, dequantize, make_whole, quantize, quantized_layers  # noqa: E402
from stairstream.train.step import Size, nll_of  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.test_lora import LORA, STAGE, compute  # noqa: E402
from tests.train.test_processes import exported  # noqa: E402
from tests.train.test_run import losses, run_until  # noqa: E402
from tests.train.tiny import ALONE, CPU, losses_of, make_row, make_start, run_alone  # noqa: E402

BITS: tuple[Bits, ...] = ("int8", "nf4")


@pytest.mark.parametrize("bits, most", [("int8", 0.008), ("nf4", 0.1)])
def test_a_weight_comes_back_nearly(bits: Bits, most: float) -> None:
    weight = torch.randn(48, 192, generator=torch.Generator().manual_seed(0))
    codes, scales = quantize(weight, bits)
    found = dequantize(codes, scales, torch.float32)
    assert found.shape == weight.shape
    assert codes.nbytes == weight.numel() // (1 if bits == "int8" else 2)
    assert scales.shape == (48, 3)
    assert 0 < float((found - weight).norm() / weight.norm()) < most
    again = quantize(found, bits)
    torch.testing.assert_close(dequantize(*again, torch.float32), found, rtol=1e-2, atol=1e-3)


def test_values_of_normal_float_and_zeros_come_back_to_the_bit() -> None:
    values = torch.tensor([[-1.0, 0.0, 1.0, 0.44070982933044434], [0.0, 0.0, 0.0, 0.0]])
    codes, scales = quantize(values, "nf4")
    assert torch.equal(dequantize(codes, scales, torch.float32), values)
    assert codes.tolist() == [[0x07, 0xFC], [0x77, 0x77]]
    whole = torch.tensor([[127.0, -127.0, 3.0, 0.0]])
    assert torch.equal(dequantize(*quantize(whole, "int8"), torch.float32), whole)


def test_pairs_need_an_even_number() -> None:
    with pytest.raises(ConfigError, match=r"lora.base: nf4 holds pairs of values, and a layer has 3 inputs; take int8"):
        quantize(torch.ones(2, 3), "nf4")


def test_what_can_not_be_split_is_refused_in_a_line() -> None:
    mesh: Any = SimpleNamespace(size=lambda: 2)
    with pytest.raises(ConfigError, match=r"lora.base: 2 processes \(parallel.tp\) can't share the 3 blocks of a row"):
        QuantizedLinear(torch.nn.Linear(192, 8), "nf4").split("inputs", mesh)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_layer_and_its_gradient_are_those_of_the_weight_it_stands_for(bits: Bits, dtype: Any) -> None:
    plain = torch.nn.Linear(128, 24)
    held = QuantizedLinear(plain, bits)
    plain.weight = torch.nn.Parameter(held.weight)
    x = torch.randn(2, 5, 128)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        expected, found = plain(one), held(other)
    assert found.dtype == expected.dtype
    loose = {} if dtype == torch.float32 else {"atol": 3e-2, "rtol": 3e-2}
    torch.testing.assert_close(found, expected, **loose)
    expected.float().square().sum().backward()
    found.float().square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad, **loose if not loose else {"atol": 0.1, "rtol": 3e-2})


@pytest.mark.parametrize("bits", BITS)
def test_a_network_in_bits_is_smaller_and_its_adapters_alone_learn(bits: Bits) -> None:
    network, plain = make_network(hidden_size=64, intermediate_size=128), make_network(hidden_size=64)
    size = Size.of(network)
    add_adapters(network, Lora(rank=4, targets=("q_proj",), base=bits), "bfloat16")
    held = quantized_layers(network)
    assert len(held) == 7 * len(network.model.layers)  # also those without an adapter
    assert {name.endswith("base_layer") for name in held} == {True, False}
    learning = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert learning and all(".lora_" in name for name in learning)
    assert all(weight.dtype == torch.float32 for weight in network.parameters() if weight.requires_grad)
    assert Size.of(network).inner - size.inner == sum(
        weight.numel() for name, weight in network.named_parameters() if ".lora_" in name
    )
    assert set(merge(network.state_dict(), Lora(rank=4))) == set(plain.state_dict())


def test_what_is_merged_computes_what_was_trained() -> None:
    network, plain, lora = make_network(), make_network(), Lora(rank=4, alpha=8, base="nf4")
    add_adapters(network, lora, "float32")
    for name, weight in network.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    plain.load_state_dict(merge(network.state_dict(), lora))
    torch.testing.assert_close(compute(plain), compute(network))


def test_the_plan_counts_bits_of_which_ranks_of_dp_have_all() -> None:
    def state(base: Bits | None, **parallel: int) -> float:
        network = make_network(hidden_size=128, intermediate_size=256, num_hidden_layers=4)
        add_adapters(network, Lora(rank=4, base=base), "bfloat16")
        return count_state(network, Parallel(**parallel), on_cpu=False)

    network = make_network(hidden_size=128, intermediate_size=256, num_hidden_layers=4)
    values = sum(one.numel() for name, one in network.named_parameters() if "_proj" in name)
    assert state(None) - state("int8") == values * (2 - 1 - 2 / 64)
    assert state("int8") - state("nf4") == values / 2
    rest = state("int8") - values * (1 + 2 / 64)
    assert state("int8", dp=2) == rest / 2 + values * (1 + 2 / 64)
    assert state("int8", pp=2) < state("int8")
    assert (is_split("0.self_attn.q_proj.lora_A.x"), is_split("0.self_attn.q_proj.lora_B.x")) == (False, True)
    assert (is_split("0.mlp.down_proj.lora_A.x"), is_split("0.mlp.down_proj.lora_B.x")) == (True, False)
    assert is_split("0.mlp.down_proj.base_layer.codes") and not is_split("0.input_layernorm.weight")


@pytest.mark.parametrize("bits, gib", [("nf4", 4.78), ("int8", 7.79)])
def test_seven_billion_in_bits_leave_most_of_24_gib_to_rows(bits: Bits, gib: float) -> None:
    """Llama 2's: 6.476 billion in layers in bits, 262 million outside of them in float32, 40 million that learn."""
    shape = transformers.LlamaConfig(hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32)
    with torch.device("meta"):
        network = transformers.LlamaForCausalLM(shape)
        add_adapters(network, Lora(rank=16, base=bits), "bfloat16")
    assert count_state(network, Parallel(), on_cpu=False) / 2**30 == pytest.approx(gib, rel=0.005)


@pytest.mark.parametrize("bits", BITS)
def test_a_base_that_does_not_learn_needs_no_gradients_and_keeps_no_whole_weights(bits: Bits) -> None:
    network = make_network(hidden_size=128, intermediate_size=256).train()
    add_adapters(network, Lora(rank=4, base=bits), "float32")
    costs = measure_costs(network, ALONE, make_run(network, CPU, "float32"), 64)
    assert not costs.head.learns
    weights = 4 * sum(one.num_values for one in quantized_layers(network.model.layers[0]).values())
    assert abs(costs.layer.whole.once) < weights / 20  # of a row of no tokens
    assert costs.layer.work.at(64) > costs.layer.whole.at(64)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("memory", ["none", "full"])
def test_the_plan_is_near_what_a_pass_takes(bits: Bits, memory: Any) -> None:
    network = make_network(hidden_size=128, intermediate_size=256, num_hidden_layers=4).train()
    use_loss_head(network)
    add_adapters(network, Lora(rank=4, base=bits), "bfloat16")
    costs = measure_costs(network, ALONE, make_run(network, CPU, "bfloat16"), 256)
    row = make_row(128, 128)
    planner = Planner(Memory(memory), costs, math.inf)
    planner.prepare(network, row)
    with LiveBytes() as live, torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        nll_of(network, row, CPU).backward()  # type: ignore[no-untyped-call, unused-ignore]
    grads = sum(one.grad.nbytes for one in network.parameters() if one.grad is not None)
    foretold = planner.foretell(row.num_tokens, row.num_trained)[0] - costs.fixed
    assert live.most - grads == pytest.approx(foretold, rel=0.15)


@pytest.mark.parametrize("bits", BITS)
def test_gradients_are_the_same_to_the_bit_whatever_is_computed_again(bits: Bits) -> None:
    found = []
    for memory in ("none", "full"):
        network = make_network(1).train()
        add_adapters(network, Lora(rank=4, base=bits), "bfloat16")
        make_simple(Memory(memory), 2).prepare(network, row := make_row(20, 30))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            nll_of(network, row, CPU).backward()  # type: ignore[no-untyped-call, unused-ignore]
        found.append([one.grad for one in network.parameters() if one.requires_grad])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers so
def test_a_run_learns_continues_to_the_bit_and_says_what_it_merged_into(tmp_path: Path) -> None:
    write_data(tmp_path)
    lora = {**LORA, "base": "nf4"}
    start, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "whole"), lora=lora, memory="full"))
    assert losses_of(said)[-1] < losses_of(said)[0]
    config = make_config(tmp_path, STAGE, lora=lora, save_every=2, memory="none")
    run_until(config, 3)
    _, rest = run_alone(config)
    assert losses(rest) == losses(said)[2:]
    with pytest.raises(ConfigError, match="checkpoints of a run with another lora"):
        run_alone(replace(config, lora=Lora(rank=4, alpha=8, base="int8")))
    with pytest.raises(ConfigError, match="checkpoints of a run with another base model"):
        run_alone(config, seed=1)
    assert (tmp_path / "out" / "model" / "README.md").read_text() == (
        "adapters of rank 4 are merged into the weights of tiny in nf4 (in blocks of 64 values), as they were held in "
        "training\n"
    )
    merged, plain = exported(tmp_path / "whole"), make_start().network
    plain.load_state_dict(merged)
    torch.testing.assert_close(compute(plain), compute(start.network), atol=1e-5, rtol=1e-5)
    held = make_whole(start.network.state_dict())
    plain.load_state_dict({name.replace(".base_layer", ""): one for name, one in held.items() if ".lora_" not in name})
    loaded = peft.PeftModel.from_pretrained(plain, tmp_path / "whole" / "adapter")
    torch.testing.assert_close(compute(loaded), compute(start.network), atol=1e-5, rtol=1e-5)
    described = json.loads((tmp_path / "whole" / "adapter" / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "tiny"
