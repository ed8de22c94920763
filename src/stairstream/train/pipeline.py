"""A network's layers in pipeline stages, one or several on each rank; rows pass through them as micro-batches.

A stage has the whole network's names; where the layers of others were, it hands on what it gets. A rank with several
stages has all their modules in one network too, from which checkpoints and the optimizer take them.
Legend: R rows, T tokens of each of them, N the most that one of them learns, V vocabulary.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe, ScheduleInterleaved1F1B
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

from stairstream.core.errors import ConfigError
from stairstream.train.attention import find_insertions
from stairstream.train.config import Precision
from stairstream.train.data import Row
from stairstream.train.head import Goal, answering, has_loss_head
from stairstream.train.processes import Processes

_KNOWN = ("gemma", "gemma3_text", "llama", "mistral", "phi", "phi3", "qwen2", "qwen3", "smollm3")
"""Whose networks are an embedding, layers, a norm and a head, and nothing between: others scale or cap there."""
_NORMS = ("norm", "final_layernorm")
"""The names that networks have for the norm between their layers and their head."""
_NOTHING = -100
"""In place of a token that is to be learned."""


def keep_stages(network: Any, ours: Sequence[int], count: int) -> list[Any]:
    """Take out of a network what other ranks compute, and return what computes each of our stages.

    Of one stage that is the network itself, of several for each a network of some of its modules. Raises ConfigError
    for one that can't be cut.
    """
    _check_can_be_cut(network, count)
    stages = [_copy(network) for _ in ours] if len(ours) > 1 else [network]
    for stage, number in zip(stages, ours, strict=True):
        _leave_out(stage, [number], count)
        if number > 0:
            stage.register_forward_pre_hook(_take_hidden, with_kwargs=True)
        if number < count - 1:
            stage.register_forward_pre_hook(_keep_all, with_kwargs=True)
    if len(ours) > 1:
        _leave_out(network, ours, count)
    network.pipeline_stages = stages
    return stages


def _leave_out(network: Any, ours: Sequence[int], count: int) -> None:
    """Hand on where other stages compute something.

    Where the head is tied to the embedding, the last stage keeps both, so that their weight has one name everywhere.
    """
    base = network.base_model
    shares = share_layers(len(base.layers), count)
    for number in range(len(base.layers)):
        if not any(number in shares[one] for one in ours):
            base.layers[number] = _hand_on(base.layers[number])
    has_last = count - 1 in ours
    if not has_last:
        setattr(base, next(name for name in _NORMS if hasattr(base, name)), _hand_on())
        network.lm_head = _hand_on()
        # what it hands on is a view of all hidden states, which no stage changes in place
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    if 0 not in ours:
        if not (has_last and network.config.tie_word_embeddings):
            base.embed_tokens = _hand_on()
        if hasattr(base, "embed_dropout"):
            base.embed_dropout = _hand_on()


def _copy(network: Any) -> Any:
    """Another network of the same modules and weights, where modules can be left out."""
    made, base = _copy_module(network), _copy_module(network.base_model)
    setattr(made, network.base_model_prefix, base)
    base.layers = torch.nn.ModuleList(base.layers)
    return made


def _copy_module(module: Any) -> Any:
    """A module with the same parts; hooks and parts of its own may be changed."""
    made = copy.copy(module)
    for name, value in vars(made).items():
        if isinstance(value, dict):
            vars(made)[name] = copy.copy(value)
    return made


def share_layers(layers: int, stages: int) -> list[range]:
    """The numbers of the layers of each stage, as evenly as can be.

    What is left over goes to the stages in the middle first, then to the first, which has the embedding, and last of
    all to the last, which has the head.
    """
    sizes = [layers // stages] * stages
    for stage in [*range(1, stages - 1), 0][: layers % stages]:
        sizes[stage] += 1
    ends = list(accumulate(sizes, initial=0))
    return [range(start, end) for start, end in pairwise(ends)]


def is_elsewhere(module: Any) -> bool:
    """Whether it stands for what another stage computes."""
    return isinstance(module, torch.nn.Identity)


def make_even(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of one length: stages exchange tensors of one shape."""
    most = max(row.num_tokens for row in rows)
    return tuple(row.fill(most - row.num_tokens) for row in rows)


def run_stages(network: Any, rows: Sequence[Row], weight: float, processes: Processes, precision: Precision) -> float:
    """Add up the gradients of even rows, each a micro-batch; they are exchanged after the last one.

    Returns the loss, summed, in the last stage, and 0 in the others.
    """

    is_loss = has_loss_head(network)

    def weigh(output: tuple[Tensor], targets_1N: Tensor) -> Tensor:
        if is_loss:
            return output[0] * weight
        logits_NV = output[0].flatten(0, -2).float()
        return cross_entropy(logits_NV, targets_1N.flatten(), ignore_index=_NOTHING, reduction="sum") * weight

    ids_RT, positions_RT, kept_RN, targets_RN = _stack(rows, processes.device)
    networks = getattr(network, "pipeline_stages", [network])
    count = processes.pp_size * len(networks)
    numbers = range(processes.pp_rank, count, processes.pp_size)
    shape = _Shape(tokens=rows[0].num_tokens, kept=kept_RN.shape[1], precision=precision)
    stages = [_make_stage(one, number, count, shape, processes) for one, number in zip(networks, numbers, strict=True)]
    run = _make_schedule(stages, len(rows), weigh)
    asked: dict[str, Any] = {"position_ids": positions_RT, "use_cache": False, "return_dict": False}
    losses: list[Tensor] = []
    if stages[-1].is_last:
        asked |= {"logits_to_keep": kept_RN, "target": targets_RN, "losses": losses}
    goals = (Goal(targets_N=targets_N[targets_N != _NOTHING]) for targets_N in targets_RN)
    with answering(network, goals), ExitStack() as added:
        for one in networks:
            more = (find_insertions(network, row.samples, processes.device) for row in rows)
            added.enter_context(_add_in_turn(one, more))
        run.step(*([ids_RT] if stages[0].is_first else []), return_outputs=False, **asked)
    return float(sum(loss.detach().double() for loss in losses)) / weight


def find_tied(network: Any, processes: Processes) -> Any:
    """The weight that the first stage and the last both have, if there is one and this process is of these."""
    if processes.pp_size == 1 or not network.config.tie_word_embeddings:
        return None
    weight = getattr(network.base_model.embed_tokens, "weight", None)
    return weight if weight is not None and weight.grad is not None else None


def add_up_tied(weight: Any, processes: Processes) -> None:
    """Give a tied weight one gradient in both stages, the same to the bit."""
    assert processes.mesh is not None
    group = processes.mesh.get_group("pp")
    peer = processes.pp_size - 1 if processes.pp_rank == 0 else 0
    mine = weight.grad.to_local() if isinstance(weight.grad, DTensor) else weight.grad
    theirs = torch.empty_like(mine)
    send = dist.P2POp(dist.isend, mine.clone(), group=group, group_peer=peer)
    receive = dist.P2POp(dist.irecv, theirs, group=group, group_peer=peer)
    for work in dist.batch_isend_irecv([send, receive]):
        work.wait()
    mine.add_(theirs)


def gather_weights(network: Any, processes: Processes) -> dict[str, Tensor]:
    """The weights of all stages, whole and on the CPU, in rank 0; in others not all of them, or none."""
    mesh, found = processes.mesh, dict[str, Tensor]()
    speaks = mesh is None or (mesh.get_local_rank("dp"), mesh.get_local_rank("tp")) == (0, 0)
    weights: dict[str, Any] = get_model_state_dict(network)
    for name, weight in weights.items():
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        if speaks:
            found[name] = whole.cpu()
    if mesh is not None and speaks:
        if processes.pp_rank:
            _send(found)
        else:
            for stage in range(1, processes.pp_size):
                found |= _receive(int(mesh.mesh[stage].flatten()[0]))
    return found


def _send(weights: dict[str, Tensor]) -> None:
    shapes = {name: (weight.shape, weight.dtype) for name, weight in weights.items()}
    dist.send_object_list([shapes], dst=0)
    for weight in weights.values():
        dist.send(weight.contiguous(), dst=0)


def _receive(rank: int) -> dict[str, Tensor]:
    told: list[Any] = [None]
    dist.recv_object_list(told, src=rank)
    weights = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in told[0].items()}
    for weight in weights.values():
        dist.recv(weight, src=rank)
    return weights


def _check_can_be_cut(network: Any, count: int) -> None:
    kind = network.config.model_type
    if kind not in _KNOWN:
        raise ConfigError(
            f"parallel.pp: {type(network).__name__} can't be cut here; those that can are {', '.join(_KNOWN)}"
        )
    base = network.base_model
    is_scaled_outside = kind.startswith("gemma") and not hasattr(base.embed_tokens, "embed_scale")
    makes_tuples = kind == "phi" and signature(base.layers[0].forward).return_annotation is not Tensor
    if is_scaled_outside or makes_tuples:
        raise ConfigError(f"parallel.pp: to cut {type(network).__name__} needs a newer version of transformers")
    if getattr(network.config, "final_logit_softcapping", None) is not None:
        raise ConfigError(f"parallel.pp: {type(network).__name__} with final_logit_softcapping can't be cut here")
    if (layers := len(base.layers)) < count:
        raise ConfigError(f"parallel.pp: {count} stages are more than the model's {layers} layers")


def _hand_on(layer: Any = None) -> Any:
    """A module without weights that gives back what it gets first; in place of a layer it says which mask it takes."""
    module: Any = torch.nn.Identity()
    module.forward = lambda hidden, **_: hidden
    if hasattr(layer, "attention_type"):  # older versions of transformers ask the layer for it
        module.attention_type = layer.attention_type
    return module


def _take_hidden(_: Any, args: tuple[Tensor], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
    """Takes the input from the stage before as hidden states, not ids."""
    return (), {"inputs_embeds": args[0], **kwargs}


def _keep_all(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hand on the hidden states of all tokens, whichever of them the last stage, on the same rank, makes logits of."""
    return args, {key: value for key, value in kwargs.items() if key != "logits_to_keep"}


@contextmanager
def _add_in_turn(network: Any, more: Iterator[dict[str, Any]]) -> Iterator[None]:
    """Give the network's passes, one after the other, what schedules can't cut into rows."""
    hook = network.register_forward_pre_hook(lambda _, args, kwargs: (args, kwargs | next(more)), with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _stack(rows: Sequence[Row], device: torch.device) -> list[Tensor]:
    """Ids and positions of all tokens, the indices of kept logits, and targets.

    A row that learns fewer tokens has indices without targets.
    """
    parts = [list(part) for part in zip(*(row.lay() for row in rows), strict=True)]
    most = max(1, *(len(targets) for targets in parts[3]))
    for part, filler in ((parts[2], 0), (parts[3], _NOTHING)):
        part[:] = [one + [filler] * (most - len(one)) for one in part]
    return [torch.tensor(part, dtype=torch.long, device=device) for part in parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Tokens of a row, how many of them have logits at most, and the type of hidden states."""

    tokens: int
    kept: int
    precision: Precision


def _make_stage(network: Any, number: int, count: int, shape: _Shape, processes: Processes) -> PipelineStage:
    """One of our stages for rows of one shape. Shapes are told beforehand: else each train step would begin with a
    trial."""
    assert processes.mesh is not None
    config, kind = network.config, getattr(torch, shape.precision)
    hidden = torch.empty(1, shape.tokens, config.hidden_size, dtype=kind, device="meta", requires_grad=True)
    ids = torch.empty(1, shape.tokens, dtype=torch.long, device="meta")
    answer = (
        torch.empty((), device="meta", requires_grad=True)
        if has_loss_head(network)
        else torch.empty(1, shape.kept, config.vocab_size, dtype=kind, device="meta", requires_grad=True)
    )
    return PipelineStage(
        network,
        number,
        count,
        processes.device,
        input_args=ids if number == 0 else hidden,
        output_args=answer if number == count - 1 else hidden,
        group=processes.mesh.get_group("pp"),
    )


def _make_schedule(stages: Sequence[PipelineStage], num_rows: int, weigh: Callable[..., Tensor]) -> Any:
    """One forward, one backward; that needs a row for each stage, and with fewer of them GPipe is the same."""
    untyped: Any = ScheduleInterleaved1F1B
    if len(stages) > 1:
        return untyped(list(stages), num_rows, weigh, scale_grads=False)
    untyped = Schedule1F1B if num_rows >= stages[0].num_stages else ScheduleGPipe
    return untyped(stages[0], num_rows, weigh, scale_grads=False)
