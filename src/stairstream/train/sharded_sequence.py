"""The sequence over ranks that share each layer: norms, and the residual stream from layer to layer, are of some of the
tokens on each rank; attention and feed-forward parts have all tokens, of some heads and inner units.
"""

from typing import Any

from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.parallel import ParallelStyle, PrepareModuleInput, RowwiseParallel, SequenceParallel

_TOKENS = 1
"""The dimension of the tokens in hidden states: [rows, tokens, hidden size]."""
_WHOLE, _SHARED = Replicate(), Shard(_TOKENS)
_PARTS = ("self_attn", "mlp")


def plan_sequence(layer: Any) -> dict[str, ParallelStyle]:
    """Styles for a layer whose input and output are shares of the sequence.

    Its parts collect their input and, in place of adding up whole outputs, hand out the shares of their sum: as much is
    exchanged as without shares.
    """
    others = {name: module for name, module in layer.named_children() if name not in _PARTS}
    norms = [name for name, module in others.items() if next(module.parameters(), None) is not None]
    return {
        **{name: SequenceParallel(sequence_dim=_TOKENS, use_local_output=True) for name in norms},
        "self_attn": PrepareModuleInput(
            input_kwarg_layouts={"hidden_states": _SHARED}, desired_input_kwarg_layouts={"hidden_states": _WHOLE}
        ),
        "self_attn.o_proj": RowwiseParallel(output_layouts=_SHARED),
        "mlp": PrepareModuleInput(input_layouts=_SHARED, desired_input_layouts=_WHOLE),
        "mlp.down_proj": RowwiseParallel(output_layouts=_SHARED),
    }


def share_sequence(layers: Any, mesh: DeviceMesh) -> None:
    """Let each rank take its share of what comes before the first of these layers, and collect what the last gives."""

    def take(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return _turn(args[0], mesh, _WHOLE, _SHARED), *args[1:]

    def collect(_: Any, __: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return _turn(output, mesh, _SHARED, _WHOLE)
        return _turn(output[0], mesh, _SHARED, _WHOLE), *output[1:]  # of some older versions of transformers

    layers[0].register_forward_pre_hook(take)
    layers[len(layers) - 1].register_forward_hook(collect)


def _turn(hidden: Tensor, mesh: DeviceMesh, before: Placement, after: Placement) -> Tensor:
    turned: Any = DTensor.from_local(hidden, mesh, [before], run_check=False).redistribute(placements=[after])
    local: Tensor = turned.to_local()
    return local
