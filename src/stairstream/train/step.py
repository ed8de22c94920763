"""One train step: the rows of a batch one after the other, then the optimizer once.

Legend: T tokens of a row, N of them that are learned, V vocabulary.
"""

import importlib
import importlib.util
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

from stairstream.core.errors import ConfigError
from stairstream.train.attention import find_insertions
from stairstream.train.config import Offload, Optimizer, Precision, Stage
from stairstream.train.data import Batch, Row
from stairstream.train.failures import OutOfMemory, is_out_of_memory
from stairstream.train.head import answering, has_loss_head
from stairstream.train.memory import Planner
from stairstream.train.offload import OffloadedAdamW
from stairstream.train.pipeline import add_up_tied, find_tied, make_even, run_stages
from stairstream.train.processes import Processes
from stairstream.train.quantized import quantized_layers
from stairstream.train.teaching import make_goal

_BETAS = (0.9, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """The result of a train step; `loss` in nats per learned token, `grad_norm` before it was clipped."""

    loss: float
    grad_norm: float

    @property
    def is_skipped(self) -> bool:
        """Whether one of the two is not finite, so that nothing was learned."""
        return not (math.isfinite(self.loss) and math.isfinite(self.grad_norm))


def make_optimizer(
    network: Any, stage: Stage, kind: Optimizer = "adamw", offload: Offload | None = None
) -> torch.optim.Optimizer:
    """AdamW; only matrices decay. Fused, in one pass over weights and moments, where no weight is split.

    `adamw8bit` is torchao's, whose moments are a byte each. Raises ConfigError if it is not installed. With
    `offload: optimizer` moments and step are on the CPU, whatever the weights are on.
    """
    parameters = [one for one in network.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in parameters if one.dim() >= 2], "weight_decay": stage.weight_decay},
        {"params": [one for one in parameters if one.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]  # adapters are all matrices
    if kind == "adamw8bit":
        return _make_8bit(groups, stage)
    if offload == "optimizer":
        return OffloadedAdamW(groups, home=torch.device("cpu"), lr=stage.lr, betas=_BETAS)
    is_split = any(isinstance(one, DTensor) for one in parameters)
    return torch.optim.AdamW(groups, lr=stage.lr, betas=_BETAS, foreach=False, fused=not is_split)


def _make_8bit(groups: list[dict[str, Any]], stage: Stage) -> torch.optim.Optimizer:
    if importlib.util.find_spec("torchao") is None:
        raise ConfigError("optimizer: adamw8bit needs torchao; install it with: pip install torchao")
    warnings.filterwarnings("ignore", "OptimState8bit does not implement")  # a cache of compiled code
    library: Any = importlib.import_module("torchao.optim")
    made: torch.optim.Optimizer = library.AdamW8bit(groups, lr=stage.lr, betas=_BETAS)
    return made


def rate_at(stage: Stage, step: int, progress: float) -> float:
    """The learning rate of a step, counted from 0: up in a line, then down along a cosine to `final_lr` of the top."""
    warm = min(1.0, (step + 1) / stage.warmup_steps) if stage.warmup_steps else 1.0
    down = stage.final_lr + (1 - stage.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return stage.lr * warm * down


def train_step(
    network: Any,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    processes: Processes,
    planner: Planner,
    *,
    precision: Precision,
    clip: float,
    lr: float,
    distill: float = 0.0,
) -> Stepped:
    """Learn one batch. Every learned token counts alike, whichever row and process it is in; `distill` is the share of
    the loss that a teacher makes.

    A batch whose loss or gradient norm is not finite leaves weights and moments as they are, on all ranks alike.
    Where memory runs out in a process that is alone, the rows are computed anew with more layers computed twice.
    Raises OutOfMemory where that does not help.
    """
    with _saying_what_to_change(batch, planner):
        total = _accumulate_within(network, optimizer, batch, processes, planner, precision, distill)
        tied = find_tied(network, processes)
        if tied is not None:
            add_up_tied(tied, processes)
        grad_norm = clip_gradients(network.parameters(), clip, processes, tied if processes.pp_rank else None)
        loss = processes.add_up(total, "pp", "dp") / max(1, batch.num_trained)
        stepped = Stepped(loss=loss, grad_norm=grad_norm)
        if not stepped.is_skipped:
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # as torchao has it
                    group["lr"].fill_(lr)
                else:
                    group["lr"] = lr
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return stepped


def _accumulate_within(
    network: Any,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    processes: Processes,
    planner: Planner,
    precision: Precision,
    distill: float,
) -> float:
    """As _accumulate; where memory runs out in a process that is alone, once more by a smaller plan."""
    while True:
        try:
            return _accumulate(network, batch, processes, planner, precision, distill)
        except (RuntimeError, MemoryError) as exc:
            optimizer.zero_grad(set_to_none=True)
            if not is_out_of_memory(exc) or processes.mesh is not None or not planner.shrink(batch.rows):
                raise


@contextmanager
def _saying_what_to_change(batch: Batch, planner: Planner) -> Iterator[None]:
    """Raises OutOfMemory where memory runs out."""
    try:
        yield
    except (RuntimeError, MemoryError) as exc:
        if is_out_of_memory(exc):
            raise OutOfMemory(_say_what_to_change(batch, planner)) from exc
        raise


def _say_what_to_change(batch: Batch, planner: Planner) -> str:
    longest = max(batch.rows, key=lambda row: row.num_tokens)
    less = "" if planner.is_full else "memory: full, or fewer GiB; "
    return (
        f"memory ran out in a train step whose longest row has {longest.num_tokens} tokens, {longest.num_trained} of "
        f"them learned; what needs less: {less}a smaller sequence_tokens; more processes, which share weights and "
        "moments (parallel.dp); lora in place of all weights"
    )


def _accumulate(
    network: Any, batch: Batch, processes: Processes, planner: Planner, precision: Precision, distill: float
) -> float:
    """Add up the gradients of our rows; they are only exchanged after the last one. Returns the loss, summed."""
    rows = batch.rows[processes.dp_rank :: processes.dp_size]
    rows = tuple(row.make_divisible(processes.tp_size) for row in rows)
    # FSDP takes the mean over the shards, and what is wanted is the sum
    weight = processes.dp_size / max(1, batch.num_trained)
    if processes.pp_size > 1:
        rows = make_even(rows)
        planner.prepare(network, max(rows, key=lambda row: row.num_trained))
        return run_stages(network, rows, weight, processes, precision)
    total = 0.0
    for number, row in enumerate(rows):
        if processes.mesh is not None:
            network.set_requires_gradient_sync(number == len(rows) - 1)
        planner.prepare(network, row)
        with cast(processes, precision):
            nll = nll_of(network, row, processes.device, distill)
        part: Any = nll * weight
        part.backward()
        total += float(nll.detach())
    return total


def nll_of(network: Any, row: Row, device: torch.device, distill: float = 0.0) -> Tensor:
    """The negative log-likelihood, summed, of what a row teaches; logits only where something is learned, and of a
    network with a loss head only of some tokens at a time. `distill`: the share that its teacher's words have in it.

    Positions begin anew with each sample, by which transformers knows that samples do not see each other.
    """
    ids, positions, kept, targets = row.lay()
    targets_N = torch.tensor(targets, dtype=torch.long, device=device)
    with answering(network, [make_goal(network, row, targets_N, distill)]):
        found: Tensor = network(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(kept, dtype=torch.long, device=device),
            **find_insertions(network, row.samples, device),
        ).logits
    if has_loss_head(network):
        return found
    return cross_entropy(found[0].float(), targets_N, reduction="sum")


def clip_gradients(parameters: Any, most: float, processes: Processes, counted_elsewhere: Any = None) -> float:
    """Scale all gradients so that their norm is at most `most`; returns what it was. They may be split in any way."""
    having = [one for one in parameters if one.grad is not None]
    by_mesh: dict[Any, list[Tensor]] = {}
    for one in having:
        if one is not counted_elsewhere:
            by_mesh.setdefault(one.grad.device_mesh if isinstance(one.grad, DTensor) else None, []).append(one.grad)
    norm = math.sqrt(processes.add_up(sum(_norm(group) ** 2 for group in by_mesh.values()), "pp"))
    if math.isfinite(norm) and norm > most:
        for one in having:
            one.grad.mul_(most / norm)
    return norm


def _norm(grads: Sequence[Tensor]) -> float:
    norm: Any = torch.nn.utils.get_total_norm(grads)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def cast(processes: Processes, precision: Precision) -> AbstractContextManager[Any]:
    """Autocast where FSDP does not see to it."""
    if precision == "bfloat16" and processes.mesh is None:
        # no weight is used twice in a pass, and a layer that is computed again need not keep its cast weights
        found: AbstractContextManager[Any] = torch.autocast(
            processes.device.type, dtype=torch.bfloat16, cache_enabled=False
        )
        return found
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The compute of a network: parameters of its layers and its head, and attention's part per pair of tokens.

    A weight is used in three passes (forward, and backward for its input and itself), or in two if it does not learn.
    """

    inner: int
    head: int
    attention: int
    passes: int = 3

    @classmethod
    def of(cls, network: Any) -> "Size":
        """The size of a network."""
        config: Any = network.config
        embedding: int = config.vocab_size * config.hidden_size
        is_tied = network.get_output_embeddings().weight is network.get_input_embeddings().weight
        held = sum(one.num_values for one in quantized_layers(network).values())
        inner: int = held + sum(one.numel() for one in network.parameters()) - embedding * (1 if is_tied else 2)
        head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width: int = config.num_attention_heads * head_size
        passes = 3 if network.get_input_embeddings().weight.requires_grad else 2
        return cls(inner=inner, head=embedding, attention=config.num_hidden_layers * width, passes=passes)

    def count_flops(self, batch: Batch) -> int:
        """Of a forward and a backward pass, as usually counted: nothing twice, no element-wise work."""
        pairs = sum(len(sample.ids) ** 2 for row in batch.rows for sample in row.samples)  # half of them are masked
        weights = self.inner * batch.num_tokens + self.head * batch.num_trained
        return 2 * self.passes * weights + 6 * self.attention * pairs
