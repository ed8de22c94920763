"""The vocabulary over ranks that share each layer: every rank has the weights of some words, in the embedding and in
the head, and no rank ever has the logits of all.

Legend: C tokens, V words of this rank, W all words, D hidden size.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.nn.functional import embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words that a rank has, from `first` on. Without a `mesh` these are all."""

    first: int = 0
    mesh: DeviceMesh | None = None

    def sum_logs(self, logits_CV: Tensor) -> Tensor:
        """The logarithm of the sum of all words' exponentials, as (C, 1)."""
        log_sum_C1 = logits_CV.logsumexp(-1, keepdim=True)
        if self.mesh is None:
            return log_sum_C1
        parts = [torch.empty_like(log_sum_C1) for _ in range(self.mesh.size())]
        dist.all_gather(parts, log_sum_C1, group=self.mesh.get_group())
        return torch.cat(parts, -1).logsumexp(-1, keepdim=True)

    def pick(self, logits_CV: Tensor, words_C1: Tensor) -> Tensor:
        """The logit of one word for each token, as (C, 1)."""
        if self.mesh is None:
            return logits_CV.gather(1, words_C1)
        at_C1, is_ours_C1 = self.find(words_C1, logits_CV.shape[1])
        return self.add_up(logits_CV.gather(1, at_C1).masked_fill_(~is_ours_C1, 0))

    def add_to(self, grad_CV: Tensor, words_C1: Tensor, values_C1: Tensor) -> None:
        """Add a value to one word for each token, on the rank that has it."""
        at_C1, is_ours_C1 = self.find(words_C1, grad_CV.shape[1])
        grad_CV.scatter_add_(1, at_C1, values_C1 * is_ours_C1)

    def add_up(self, values: Tensor) -> Tensor:
        """The sum of what the ranks found, each in its words; `values` is changed."""
        if self.mesh is not None and values.numel():
            dist.all_reduce(values, group=self.mesh.get_group())
        return values

    def find(self, words: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The numbers of words among the `count` of this rank, 0 for those that it does not have; and which it has."""
        at = words - self.first
        is_ours = (at >= 0) & (at < count)
        return at * is_ours, is_ours


ALL_WORDS = Words()


def own_part(weight: Tensor) -> tuple[Tensor, Words]:
    """The part of a head's or an embedding's weight that this rank computes with, and of which words it is."""
    if not isinstance(weight, DTensor):
        return weight, ALL_WORDS
    mesh, part = weight.device_mesh, weight.to_local()
    return part, Words(first=mesh.get_local_rank() * len(part), mesh=mesh)


class SplitEmbedding(nn.Embedding):  # type: ignore[misc, unused-ignore]
    """An embedding of which each rank has some words; all get the same sum of what they found."""

    def forward(self, ids: Tensor) -> Tensor:
        """The weights of these words."""
        part_VD, words = own_part(self.weight)
        at, is_ours = words.find(ids, len(part_VD))
        padding = None if self.padding_idx is None else self.padding_idx - words.first
        if padding is not None and not 0 <= padding < len(part_VD):
            padding = None
        found = embedding(at, part_VD, padding).masked_fill(~is_ours[..., None], 0)
        assert words.mesh is not None
        parts: Any = DTensor.from_local(found, words.mesh, [Partial()], run_check=False)
        whole: Tensor = parts.redistribute(placements=[Replicate()]).to_local()
        return whole


def share_words(network: Any, mesh: DeviceMesh) -> None:
    """Split the embedding and the head, which makes losses, over the ranks of a mesh. Tied weights stay one.

    Of a pipeline stage that has neither of the two, or only one, what is there.
    """
    embed, head = network.get_input_embeddings(), network.get_output_embeddings()
    shared: dict[Tensor, nn.Parameter] = {}
    for module in (embed, head):
        if (weight := getattr(module, "weight", None)) is not None:
            if weight not in shared:
                part = distribute_tensor(weight, mesh, [Shard(0)])
                shared[weight] = nn.Parameter(part, requires_grad=weight.requires_grad)
            module.weight = shared[weight]
    if isinstance(embed, nn.Embedding):
        kind = type(embed)  # that of Gemma scales what a plain one finds
        embed.__class__ = SplitEmbedding if kind is nn.Embedding else type(kind.__name__, (kind, SplitEmbedding), {})
