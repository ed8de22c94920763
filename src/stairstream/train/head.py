"""The loss of a network's head without its logits: some tokens at a time, with the gradients made in the same pass.

Legend: N tokens that are learned, C of them at a time, D hidden size, V vocabulary.
"""

import importlib
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stairstream.train.words import ALL_WORDS, Words, own_part

_LOGITS_AT_ONCE = 2**25
"""So many logits are there at a time: 256 tokens of a vocabulary of 128k, 128 MiB in float32."""


def tokens_at_once(vocabulary: int) -> int:
    """How many tokens have logits at a time."""
    return max(16, _LOGITS_AT_ONCE // vocabulary)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The targets of the learned tokens of a row. The loss is the sum, over them, of the cross-entropy of their
    targets; with a teacher, of that times `hard_N` and the divergence (KL) from the teacher's words times `soft_N`.

    `teacher_ND` is what the same head makes the teacher's words of.
    """

    targets_N: Tensor
    teacher_ND: Tensor | None = None
    hard_N: Tensor | None = None
    soft_N: Tensor | None = None


class LossHead(nn.Linear):  # type: ignore[misc, unused-ignore]
    """A head that answers with a loss while it is given goals, with what it is given while it is listened to, and with
    logits else. The weight and its name are those of the plain one."""

    goals: Iterator[Goal] | None = None
    hears: bool = False

    def forward(self, hidden: Tensor) -> Tensor:
        """As said above; hidden states after those that have a target are left out."""
        if self.hears:
            return hidden
        if self.goals is None:
            return super().forward(hidden)
        goal = next(self.goals)
        hidden_ND = hidden.flatten(0, -2)[: len(goal.targets_N)]
        weight_VD, words = own_part(self.weight)
        return linear_loss(hidden_ND, weight_VD, goal, words=words)


def use_loss_head(network: Any) -> None:
    """Let a network's head be one that makes losses, if what comes of it is the network's answer as it is.

    Others scale or cap their logits after the head: these keep them.
    """
    head = network.get_output_embeddings()
    if type(head) is nn.Linear and head.bias is None and _hands_out(network, head):
        make_loss_head(network)


def make_loss_head(network: Any) -> None:
    """As use_loss_head, of a network that is known to be like that."""
    network.get_output_embeddings().__class__ = LossHead


def has_loss_head(network: Any) -> bool:
    """Whether its head makes losses."""
    return isinstance(network.get_output_embeddings(), LossHead)


@contextmanager
def answering(network: Any, goals: Iterable[Goal]) -> Iterator[None]:
    """Let each pass of a network with a loss head give the loss of the next goal in place of logits."""
    head = network.get_output_embeddings()
    if not isinstance(head, LossHead):
        yield
        return
    head.goals = iter(goals)
    try:
        yield
    finally:
        head.goals = None


@contextmanager
def listening(network: Any) -> Iterator[None]:
    """Let the passes of a network with a loss head give what its head is given."""
    head = network.get_output_embeddings()
    head.hears = True
    try:
        yield
    finally:
        head.hears = False


def linear_loss(
    hidden_ND: Tensor, weight_VD: Tensor, goal: Goal, at_once: int | None = None, words: Words = ALL_WORDS
) -> Tensor:
    """The loss of a goal; `at_once` tokens at a time, or as many as memory is well used by.

    Products are computed as the network's others, everything else in float32. Of some `words`, the ranks that have the
    others compute with this one, and all get the same loss.
    """
    device = hidden_ND.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight_VD.dtype
    is_plain = goal.teacher_ND is None and words.mesh is None
    if is_plain and device == "cuda" and (fused := _find_liger()) is not None:
        found: Tensor = fused(weight_VD.to(kind), hidden_ND.to(kind), goal.targets_N)
        return found
    if at_once is None:
        at_once = tokens_at_once(len(weight_VD)) // (1 if goal.teacher_ND is None else 2)  # which has logits of its own
    function: Any = _LinearLoss
    loss: Tensor = function.apply(hidden_ND, weight_VD, goal, words, kind, at_once, torch.is_grad_enabled())
    return loss


@cache
def _find_liger() -> Any:
    """Liger's fused kernel for a GPU, if it is installed."""
    if importlib.util.find_spec("liger_kernel") is None:
        return None
    made: Any = importlib.import_module("liger_kernel.transformers.fused_linear_cross_entropy")
    return made.LigerFusedLinearCrossEntropyLoss(reduction="sum", accum_dtype=torch.float32)


def _hands_out(network: Any, head: Any) -> bool:
    """Whether a network's answer is its head's, and nothing is done to it after."""
    made: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, __, output: made.append(output))
    ids = torch.zeros(1, 2, dtype=torch.long, device=head.weight.device)
    try:
        with torch.no_grad():
            found = network(input_ids=ids, use_cache=False).logits
    finally:
        hook.remove()
    return len(made) == 1 and found is made[0]


class _LinearLoss(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    """The loss, and the gradients of hidden states and weight with it: logits are there once, and not for long."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        goal: Goal,
        words: Words,
        kind: torch.dtype,
        at_once: int,
        learns: bool,
    ) -> Tensor:
        needs_hidden, needs_weight = (learns and one for one in ctx.needs_input_grad[:2])
        weight = weight_VD.to(kind)
        grad_ND = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight else None
        loss = torch.zeros((), device=hidden_ND.device)
        for start in range(0, len(hidden_ND), at_once):
            part = slice(start, start + at_once)
            hidden_CD = hidden_ND[part].to(kind)
            loss_C, grad_CV = _learn_some(hidden_CD, weight, goal, words, part, learns=needs_hidden or needs_weight)
            loss += loss_C.sum()
            if grad_ND is not None:
                grad_ND[part] = grad_CV @ weight
            if grad_VD is not None:
                _add_product(grad_VD, grad_CV, hidden_CD)
        ctx.grads = (
            None if grad_ND is None else words.add_up(grad_ND),
            None if grad_VD is None else grad_VD.to(weight_VD.dtype),
        )
        return loss

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, misc, no-untyped-call, unused-ignore]
    def backward(ctx: Any, by: Tensor) -> Any:
        grads, ctx.grads = ctx.grads, None
        return (*(None if one is None else one.mul_(by) for one in grads), None, None, None, None, None)


def _learn_some(
    hidden_CD: Tensor, weight_VD: Tensor, goal: Goal, words: Words, part: slice, *, learns: bool
) -> tuple[Tensor, Tensor]:
    """The loss of some tokens, and where it is wanted the gradient of their logits, in the products' type."""
    targets_C1 = goal.targets_N[part, None]
    logits_CV = (hidden_CD @ weight_VD.T).float()
    log_sum_C1 = words.sum_logs(logits_CV)
    loss_C = (log_sum_C1 - words.pick(logits_CV, targets_C1))[:, 0]
    hard_C1 = soft_C1 = teacher_CV = None
    if goal.teacher_ND is not None:
        assert goal.hard_N is not None and goal.soft_N is not None
        hard_C1, soft_C1 = goal.hard_N[part, None], goal.soft_N[part, None]
        teacher_CV = (goal.teacher_ND[part].to(weight_VD.dtype) @ weight_VD.T).float()
        teacher_CV.sub_(words.sum_logs(teacher_CV))
        distance_C = words.add_up(_diverge(teacher_CV, logits_CV, log_sum_C1))
        loss_C = loss_C * hard_C1[:, 0] + distance_C * soft_C1[:, 0]
    if not learns:
        return loss_C, logits_CV
    grad_CV = logits_CV.sub_(log_sum_C1).exp_()
    if teacher_CV is None:
        words.add_to(grad_CV, targets_C1, torch.full_like(log_sum_C1, -1.0))
    else:
        assert hard_C1 is not None and soft_C1 is not None
        grad_CV.mul_(hard_C1 + soft_C1).sub_(teacher_CV.exp_().mul_(soft_C1))
        words.add_to(grad_CV, targets_C1, -hard_C1)
    return loss_C, grad_CV.to(hidden_CD.dtype)


def _diverge(teacher_CV: Tensor, logits_CV: Tensor, log_sum_C1: Tensor) -> Tensor:
    """How far words are from the teacher's, whose logarithms are given: KL(teacher || student), per token, over the
    words of this rank."""
    apart_CV = (teacher_CV - logits_CV).add_(log_sum_C1)
    return apart_CV.mul_(teacher_CV.exp()).sum(-1)


def _add_product(grad_VD: Tensor, grad_CV: Tensor, hidden_CD: Tensor) -> None:
    if grad_CV.dtype == grad_VD.dtype:
        grad_VD.addmm_(grad_CV.T, hidden_CD)
    else:
        grad_VD += grad_CV.T @ hidden_CD
