"""A model of transformers, with its tokenizer, as something that runs batches over caches that can open gaps.

Whether a model can be served is found out by trying: what our attention gives must be what the model's own gives, and
must not change when all positions are moved.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stairstream.backends.torch.attention import NAME, Batch, register
from stairstream.backends.torch.cache import Cache, Shape
from stairstream.core.errors import ModelUnusable

_TRIAL_TOKENS = 12
_TRIAL_SHIFT = 7
_UNSTEADY_ROPE = ("dynamic", "longrope")


class Model:
    """Weights that any number of caches share. Raises ModelUnusable for a model that our attention can't serve."""

    def __init__(self, network: Any, name: str) -> None:
        self.name = name
        self.config = network.config
        self.network = network.eval().requires_grad_(False)
        self.context_tokens = _count_context(network.config)
        self._rotary, self._apply_rotary = _find_rotary(network, name)
        self.shape = _find_shape(network)
        with torch.inference_mode():
            expected = self._run_own()
            register()
            self.network.set_attn_implementation(NAME)
            self._check(expected)

    def new_cache(self) -> Cache:
        """An empty cache for one sequence."""
        return Cache(self.shape, self._rotate)

    def run(self, batch: Batch, wanted: list[int]) -> Tensor:
        """Fill the batch's claims; returns logits, in float32, behind the last token of each of the claims `wanted`."""
        ends, end = [], 0
        for claim in batch.claims:
            end += len(claim.ids)
            ends.append(end - 1)
        return self.run_at(batch, [ends[i] for i in wanted])

    def run_at(self, batch: Batch, places: list[int]) -> Tensor:
        """As `run`; returns logits behind the tokens at these places of the batch's row."""
        device = self.shape.device
        with torch.inference_mode():
            logits: Tensor = self.network(
                input_ids=torch.tensor([batch.ids], device=device),
                position_ids=torch.tensor([batch.positions], device=device),
                use_cache=False,
                logits_to_keep=torch.tensor(places, dtype=torch.long, device=device),
                stairstream=batch,
            ).logits
        for claim in batch.claims:
            claim.cache.keep(claim)
        return logits[0].float()

    def _rotate(self, keys_LHND: Tensor, shifts_N: Tensor) -> Tensor:
        """Rotate keys by some positions, in float32."""
        keys = keys_LHND.float()
        cos, sin = self._rotary(keys, shifts_N[None])
        scaling = getattr(self._rotary, "attention_scaling", 1.0)  # it is in the keys already
        rotated: Tensor = self._apply_rotary(keys, keys[:, :0], cos / scaling, sin / scaling)[0]
        return rotated.to(keys_LHND.dtype)

    def _trial_ids(self) -> list[int]:
        return [(i * 7919 + 11) % self.config.vocab_size for i in range(_TRIAL_TOKENS)]

    def _run_own(self) -> Tensor:
        """The model's own logits at the end of the trial text."""
        ids = torch.tensor([self._trial_ids()], device=self.shape.device)
        logits: Tensor = self.network(input_ids=ids, use_cache=False, logits_to_keep=1).logits
        return logits[0].float()

    def _check(self, expected: Tensor) -> None:
        """Compare with the model's own logits: at once, and behind entries that were moved forward and back."""
        ids = self._trial_ids()
        try:
            plain, moved = self._run_trial(ids, shift=0), self._run_trial(ids, shift=_TRIAL_SHIFT)
        except (TypeError, RuntimeError, AttributeError, KeyError, ValueError) as exc:
            raise _refusal(self.name, f"its layers do not take our attention ({exc})") from exc
        tolerance = 0.02 if self.shape.dtype == torch.float32 else 0.2
        spread = float(expected.std()) or 1.0
        for what, found in (("attention", plain), ("positions", moved)):
            error = float((found - expected).abs().max()) / spread
            if not error < tolerance:
                raise _refusal(self.name, f"its {what} are of a kind that a cache with gaps can't hold")

    def _run_trial(self, ids: list[int], shift: int) -> Tensor:
        """The last logits of the trial text, whose first half had stood `shift` positions further on when computed."""
        cache, half = self.new_cache(), len(ids) // 2
        padded = ids[:1] * shift + ids[:half]
        cache.rearrange(padded, [None] * len(padded))
        claim = cache.claim(len(padded))
        if shift:  # the padding is there, but nothing sees it
            assert claim.mask_TN is not None
            claim.mask_TN[shift:, :shift] = float("-inf")
        self.run(Batch([claim]), [])
        cache.rearrange(ids, [*range(shift, shift + half), *[None] * (len(ids) - half)])
        return self.run(Batch([cache.claim(len(ids) - half)]), [0])


def _refusal(name: str, why: str) -> ModelUnusable:
    return ModelUnusable(f"the torch backend can't serve {name}: {why}; use another backend for it")


def _find_shape(network: Any) -> Shape:
    config = network.config
    num_heads = config.num_attention_heads
    return Shape(
        num_layers=config.num_hidden_layers,
        num_heads=getattr(config, "num_key_value_heads", None) or num_heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // num_heads,
        dtype=network.dtype,
        device=network.device,
    )


def _count_context(config: Any) -> int:
    """Tokens that the model was made for; no more than its attention's window, so that the window never matters."""
    sizes = [config.max_position_embeddings]
    if getattr(config, "use_sliding_window", True):
        sizes.append(getattr(config, "sliding_window", None) or config.max_position_embeddings)
    return int(min(sizes))


def _find_rotary(network: Any, name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The model's own rotary module, and the function with which its attention applies it."""
    base = network.base_model
    rotary = getattr(base, "rotary_emb", None)
    layers = getattr(base, "layers", None)
    attention = getattr(layers[0], "self_attn", None) if layers else None
    apply = getattr(sys.modules[type(attention).__module__], "apply_rotary_pos_emb", None)
    if rotary is None or attention is None or apply is None:
        raise _refusal(name, "it has no rotary position embedding of a kind known here")
    if getattr(rotary, "rope_type", "default") in _UNSTEADY_ROPE:
        raise _refusal(name, f"its rotary embedding ({rotary.rope_type}) changes with the length of the text")
    return rotary, apply
