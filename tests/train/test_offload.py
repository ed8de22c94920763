"""The optimizer's moments on another device than the weights: the same bits, and no moment where the weights are."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ConfigError  # noqa: E402
from stairstream.train.config import Parallel  # noqa: E402
from stairstream.train.data import split_prompts  # noqa: E402
from stairstream.train.memory.planner import count_state, moment_bytes  # noqa: E402
from stairstream.train.meters import Metrics  # noqa: E402
from stairstream.train.offload import OffloadedAdamW, say_offload  # noqa: E402
from stairstream.train.processes import open_processes  # noqa: E402
from stairstream.train.run import train_from  # noqa: E402
from stairstream.train.stopping import StopRequest  # noqa: E402
from tests.backends.torch.tiny import make_network  # noqa: E402
from tests.train.recorded import make_config, write_data  # noqa: E402
from tests.train.test_run import losses, run_until  # noqa: E402
from tests.train.tiny import losses_of, make_start, report_to, run_alone, state_of  # noqa: E402

STAGE = {"epochs": None, "steps": 4}
CPU, AWAY = torch.device("cpu"), torch.device("meta")
RATES: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95)}


class Elsewhere(torch.Tensor):  # type: ignore[name-defined, misc, unused-ignore]
    """A tensor on another device as far as PyTorch knows, whose numbers are on the CPU; it can be copied, but no
    operation takes it together with one of the CPU."""

    inside: Any

    def __new__(cls, inside: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, inside.shape, dtype=inside.dtype, device=AWAY)

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        assert name == "copy_" or all(isinstance(one, Elsewhere) for one in tensors)
        found = func(*(one.inside if isinstance(one, Elsewhere) else one for one in args), **kwargs)
        if name == "copy_":
            return args[0]
        return found if torch.device(kwargs.get("device") or AWAY) == CPU else Elsewhere(found)


def make_weights(device: Any = CPU) -> list[Any]:
    dice = torch.Generator().manual_seed(0)
    numbers = [torch.randn(*shape, generator=dice) for shape in ((8, 4), (5,), (3, 3))]
    return [torch.nn.Parameter(one if device == CPU else Elsewhere(one)) for one in numbers]


def numbers_of(weights: list[Any]) -> list[Any]:
    return [one.detach().inside if isinstance(one, Elsewhere) else one.detach() for one in weights]


def groups_of(weights: list[Any]) -> list[dict[str, Any]]:
    return [{"params": weights[:1], "weight_decay": 0.1}, {"params": weights[1:], "weight_decay": 0.0}]


def step(optimizer: Any, weights: list[Any], seed: int) -> None:
    dice = torch.Generator().manual_seed(seed)
    for one in weights:
        grad = torch.randn(one.shape, generator=dice)
        one.grad = Elsewhere(grad) if isinstance(one, Elsewhere) else grad
    optimizer.step()


def test_weights_are_those_of_the_fused_optimizer_to_the_bit_and_moments_elsewhere() -> None:
    plain, moved = make_weights(), make_weights(AWAY)
    one = torch.optim.AdamW(groups_of(plain), fused=True, **RATES)
    other = OffloadedAdamW(groups_of(moved), home=CPU, **RATES)
    for seed in range(3):
        step(one, plain, seed)
        step(other, moved, seed)
    assert all(torch.equal(*pair) for pair in zip(numbers_of(moved), numbers_of(plain), strict=True))
    assert devices_of(other) == {CPU}
    assert {weight.device for weight in moved} == {AWAY}
    moved[0].grad = None
    before = numbers_of(moved)[0].clone()
    other.step()
    assert torch.equal(numbers_of(moved)[0], before)


def devices_of(optimizer: Any) -> set[Any]:
    return {value.device for state in optimizer.state.values() for value in state.values()}


def test_loaded_moments_come_home_and_continue_to_the_bit() -> None:
    whole, parts = make_weights(), make_weights(AWAY)
    one = OffloadedAdamW(groups_of(whole), home=CPU, **RATES)
    first = OffloadedAdamW(groups_of(parts), home=CPU, **RATES)
    for seed in range(4):
        step(one, whole, seed)
    for seed in range(2):
        step(first, parts, seed)
    second = OffloadedAdamW(groups_of(parts), home=CPU, **RATES)
    second.load_state_dict(first.state_dict())
    assert devices_of(second) == {CPU}
    for seed in range(2, 4):
        step(second, parts, seed)
    assert all(torch.equal(*pair) for pair in zip(numbers_of(parts), numbers_of(whole), strict=True))


def test_the_plan_of_a_gpu_has_half_of_the_state_and_a_cpus_all(tmp_path: Path) -> None:
    network, config = make_network(), make_config(tmp_path, offload="optimizer")
    count = sum(one.numel() for one in network.parameters())
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert count_state(network, Parallel(), on_cpu=False, moments=moment_bytes(config, gpu)) == 8 * count
    assert count_state(network, Parallel(), on_cpu=True, moments=moment_bytes(config, cpu)) == 28 * count
    assert say_offload(config, gpu) is None
    assert say_offload(make_config(tmp_path), cpu) is None


def test_what_does_not_work_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="offload: works with adamw; leave it out, or adamw8bit"):
        make_config(tmp_path, offload="optimizer", optimizer="adamw8bit")
    with pytest.raises(ConfigError, match="offload: works in one process; leave it out, or parallel"):
        make_config(tmp_path, offload="optimizer", parallel={"dp": 2})
    with pytest.raises(ConfigError, match="offload"):
        make_config(tmp_path, offload="weights")


@pytest.mark.slow
def test_a_run_on_a_cpu_says_that_it_has_no_effect_and_learns_the_same(tmp_path: Path) -> None:
    write_data(tmp_path)
    plain, said = run_alone(make_config(tmp_path, STAGE, output=str(tmp_path / "plain")))
    config = make_config(tmp_path, STAGE, save_every=2, offload="optimizer")
    run_until(config, 3)
    start, rest, lines = make_start(), list[Metrics](), list[str]()
    with open_processes(config.parallel) as processes:
        train_from(start, config, split_prompts(config), processes, report_to(rest, lines), StopRequest())
    assert lines[0] == "offload: optimizer has no effect on a CPU, where the moments are in any case"
    assert losses(rest) == losses(said)[2:]
    assert losses_of(rest) == losses_of(said)[2:]
    weights = state_of(plain.network)
    assert all(torch.equal(weight, weights[name]) for name, weight in start.network.state_dict().items())
