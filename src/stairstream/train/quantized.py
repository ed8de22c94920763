"""Linear layers whose weights are held in 8 or 4 bits and made whole for each product; they do not learn.

Legend: O outputs, I inputs, B blocks of a row of inputs, each with a scale of its own; P pairs of values in a byte.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ParallelStyle
from torch.nn.functional import embedding

from stairstream.core.errors import ConfigError
from stairstream.train.config import Bits

_MOST_IN_BLOCK = 64
_MOST_IN_8_BITS = 127
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The 4-bit NormalFloat: quantiles of a normal distribution, scaled to [-1, 1] (Dettmers and others, QLoRA,
arXiv 2305.14314, appendix E)."""
Dimension = Literal["outputs", "inputs"]


def quantize(weight_OI: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Codes and scales of a weight, in blocks of 64 values of a row (or the largest divisor of it and 64).

    With m the largest magnitude of a block, `int8` has scale = m / 127 and code = round(w / scale), as signed bytes
    (absmax quantization: Dettmers and others, LLM.int8(), arXiv 2208.07339, section 2.1, there of whole tensors);
    `nf4` has scale = m and as code the nearest of the 16 values of NormalFloat to w / scale, two in a byte, the first
    in the high half. Scales are rounded to bfloat16 before codes are found, so that they are the same in every type.
    """
    outputs, inputs = weight_OI.shape
    block = math.gcd(inputs, _MOST_IN_BLOCK)
    parts_OBI = weight_OI.detach().float().reshape(outputs, inputs // block, block)
    most_OB = parts_OBI.abs().amax(-1)
    scales_OB = (most_OB / _MOST_IN_8_BITS if bits == "int8" else most_OB).to(torch.bfloat16)
    shares_OBI = parts_OBI / torch.where(scales_OB == 0, 1, scales_OB).float()[..., None]
    if bits == "int8":
        codes_OBI = shares_OBI.round_().clamp_(-_MOST_IN_8_BITS, _MOST_IN_8_BITS)
        return codes_OBI.reshape(outputs, inputs).to(torch.int8), scales_OB
    if inputs % 2:
        raise ConfigError(f"lora.base: nf4 holds pairs of values, and a layer has {inputs} inputs; take int8")
    values = torch.tensor(_NF4, device=weight_OI.device)
    codes_OI = torch.bucketize(shares_OBI, (values[1:] + values[:-1]) / 2, out_int32=True).reshape(outputs, inputs)
    return ((codes_OI[:, ::2] << 4) | codes_OI[:, 1::2]).to(torch.uint8), scales_OB


def dequantize(codes_OP: Tensor, scales_OB: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight that codes and scales stand for."""
    is_byte = codes_OP.dtype == torch.int8
    values = codes_OP.to(dtype) if is_byte else embedding(codes_OP.int(), _make_pairs(codes_OP.device, dtype))
    return (values.view(*scales_OB.shape, -1) * scales_OB.to(dtype)[..., None]).flatten(1)


def make_whole(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named weights with float32 in place of codes and scales."""
    found = dict[str, Tensor]()
    for name, weight in weights.items():
        path, _, what = name.rpartition(".")
        if what == "codes":
            found[f"{path}.weight"] = dequantize(weight, weights[f"{path}.scales"], torch.float32)
        elif what != "scales":
            found[name] = weight
    return found


class QuantizedLinear(nn.Linear):  # type: ignore[misc, unused-ignore]
    """A linear layer with codes and scales in place of its weight; one of nn.Linear for those that ask.

    They are buffers: what shards weights over processes leaves them alone.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, plain: nn.Linear, bits: Bits) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        codes, scales = quantize(plain.weight, bits)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.bias = plain.bias
        self._split: tuple[Dimension, Any] | None = None

    @property
    def weight(self) -> Tensor:  # type: ignore[override, unused-ignore]
        """The weight that its codes stand for, made now."""
        return dequantize(_own_part(self.codes), _own_part(self.scales), torch.float32)

    @property
    def num_values(self) -> int:
        """Of the weight, over all ranks."""
        return int(self.in_features * self.out_features)

    def split(self, by: Dimension, mesh: DeviceMesh) -> None:
        """Keep this rank's part alone. Raises ConfigError if that would cut a block."""
        whole, dim = self.scales.shape[1], 0 if by == "outputs" else 1
        if by == "inputs" and whole % mesh.size():
            raise ConfigError(
                f"lora.base: {mesh.size()} processes (parallel.tp) can't share the {whole} blocks of a row of "
                f"{self.in_features} weights evenly; take another tp, or leave lora.base out"
            )
        self.codes, self.scales = (_take_part(one, dim, mesh) for one in (self.codes, self.scales))
        if self.bias is not None and by == "outputs":
            self.bias = nn.Parameter(_take_part(self.bias.detach(), dim, mesh), requires_grad=False)
        self._split = by, mesh.get_group()

    def forward(self, x: Tensor) -> Tensor:
        """The product with the weight, in the type of the network's others, and what is added to it."""
        by, group = self._split or (None, None)
        if by == "outputs":
            x = _apply(_GradientsAddedUp, x, group)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        found = _apply(_Product, x, _own_part(self.codes), _own_part(self.scales), dtype)
        if by == "inputs":
            found = _apply(_AddedUp, found, group)
        return found if self.bias is None else found + _own_part(self.bias).to(dtype)


class SplitCodes(ParallelStyle):  # type: ignore[misc, unused-ignore]
    """Tensor parallelism of a quantized layer, as PyTorch's styles have it of others."""

    def __init__(self, by: Dimension) -> None:
        self._by = by

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        assert isinstance(module, QuantizedLinear)
        module.split(self._by, device_mesh)
        return module


def hold_in(bits: Bits, layers: Any) -> None:
    """Replace all linear layers in these by quantized ones."""
    for parent in [*layers.modules()]:
        for name, child in [*parent.named_children()]:
            if type(child) is nn.Linear:
                setattr(parent, name, QuantizedLinear(child, bits))


def quantized_layers(network: Any) -> dict[str, QuantizedLinear]:
    """The quantized layers of a network, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, QuantizedLinear)}


@cache
def _make_pairs(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The two values of each byte."""
    values = torch.tensor(_NF4, device=device, dtype=dtype)
    return torch.stack([values.repeat_interleave(16), values.repeat(16)], dim=1)


def _apply(function: Any, *args: Any) -> Tensor:
    found: Tensor = function.apply(*args)
    return found


def _take_part(whole: Tensor, dim: int, mesh: DeviceMesh) -> Tensor:
    """This rank's part of what all ranks have whole."""
    part = whole.chunk(mesh.size(), dim)[mesh.get_local_rank()].contiguous()
    return DTensor.from_local(part, mesh, [Shard(dim)], run_check=False)


def _own_part(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class _Product(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    """A product with a weight that is made for it, and once more for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.types = x.dtype, dtype
        return x.to(dtype) @ dequantize(codes, scales, dtype).T

    @staticmethod
    def backward(ctx: Any, by: Tensor) -> Any:
        codes, scales = ctx.saved_tensors
        given, dtype = ctx.types
        return (by.to(dtype) @ dequantize(codes, scales, dtype)).to(given), None, None, None


class _AddedUp(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    """The sum of what ranks have; each of them gets the gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        found = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, group=group)
        return found

    @staticmethod
    def backward(ctx: Any, by: Tensor) -> Any:
        return by, None


class _GradientsAddedUp(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    """A tensor that all ranks have alike; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, by: Tensor) -> Any:
        found = by.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found, group=ctx.group)
        return found, None
