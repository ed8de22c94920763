"""A model of transformers, with its tokenizer, as something that runs batches over caches that can open gaps.

Whether a model can be served is found out by trying: what our attention gives must be what the model's own gives, and
must not change when all positions are moved.
"""

from typing import Any

import torch
from torch import Tensor

from stairstream.backends.torch.adapter import Gate
from stairstream.backends.torch.attention import NAME, Batch, register
from stairstream.backends.torch.cache import Cache, Shape
from stairstream.backends.torch.rotary import find_rotary
from stairstream.backends.torch.static import Decoder, Recorder, RowBatch, repeat, round_up
from stairstream.core.errors import ModelUnusable

_TRIAL_TOKENS = 12
_TRIAL_SHIFT = 7
_GPU_ROWS = 4
_GPU_ENTRIES = 2048
"""The size of the buffers of a GPU's steps at first: when they grow, all steps are captured anew."""


class Model:
    """Weights that any number of caches share. Raises ModelUnusable for a model that our attention can't serve."""

    def __init__(self, network: Any, name: str, gate: Gate | None = None) -> None:
        """`gate` is that of the adapter beside the network's weights, if there is one."""
        self.name = name
        self._gate = gate
        self.config = network.config
        self.network = network.eval().requires_grad_(False)
        self.context_tokens = _count_context(network.config)
        try:
            self._rotary = find_rotary(network)
        except ValueError as exc:
            raise _refusal(name, str(exc)) from None
        self.shape = _find_shape(network)
        self.decoder: Decoder | None = None
        """Runs steps of one token per sequence; None: they are batches like all others."""
        with torch.inference_mode():
            self._expected = self._run_own()
            register()
            self.network.set_attn_implementation(NAME)
            self._check()
        if self.shape.device.type == "cuda":
            self._use_graphs()

    def decode_with(self, record: Recorder | None) -> None:
        """Decode in steps of fixed shapes, which are recorded; None: as a batch of any shape, as prefill.

        Raises ModelUnusable, and leaves things as they were, if the model can't be decoded so.
        """
        before, self.decoder = self.decoder, None
        if record is None:
            return
        is_gpu = self.shape.device.type == "cuda"
        rows, entries = (_GPU_ROWS, min(_GPU_ENTRIES, round_up(self.context_tokens))) if is_gpu else (1, 1)
        self.decoder = Decoder(self.shape, self._forward_rows, record, num_rows=rows, num_entries=entries)
        try:
            for _ in range(2):  # recorded, then repeated
                self._compare("steps of one token", self._run_trial(self._trial_ids(), shift=0, last_tokens=1))
        except (RuntimeError, ModelUnusable) as exc:
            self.decoder = before
            raise _refusal(self.name, f"it can't be decoded in steps of fixed shapes ({exc})") from exc

    def _use_graphs(self) -> None:
        """Capture steps if that goes, else at least keep their shapes, else neither."""
        from stairstream.backends.torch.capture import make_capture

        for record in (make_capture(), repeat):
            try:
                return self.decode_with(record)
            except ModelUnusable:
                continue

    def new_cache(self, *, is_adapted: bool = False) -> Cache:
        """An empty cache for one sequence, computed with the adapter or without."""
        return Cache(self.shape, self._rotate, is_adapted=is_adapted)

    def run(self, batch: Batch, wanted: list[int]) -> Tensor:
        """Fill the batch's claims; returns logits, in float32, after the last token of each of the claims `wanted`."""
        ends, end = [], 0
        for claim in batch.claims:
            end += len(claim.ids)
            ends.append(end - 1)
        return self.run_at(batch, [ends[i] for i in wanted])

    def run_at(self, batch: Batch, positions: list[int]) -> Tensor:
        """As `run`; returns logits after the tokens at these positions of the batch's row."""
        device = self.shape.device
        if self.decoder is not None and self.decoder.takes(batch.claims):
            logits_TV = self.decoder.run(batch.claims)[positions]  # each claim is one position
        else:
            logits_TV = self._forward(
                torch.tensor(batch.ids, device=device),
                torch.tensor(batch.positions, device=device),
                batch,
                torch.tensor(positions, dtype=torch.long, device=device),
            )
        for claim in batch.claims:
            claim.cache.keep(claim)
        return logits_TV

    def _forward(self, ids_T: Tensor, positions_T: Tensor, batch: Batch | RowBatch, kept: Tensor | int) -> Tensor:
        with torch.inference_mode():
            if self._gate is not None:
                self._gate.open_T1 = batch.open_gate(self.shape.dtype, self.shape.device)
            logits: Tensor = self.network(
                input_ids=ids_T[None],
                position_ids=positions_T[None],
                use_cache=False,
                logits_to_keep=kept,
                stairstream=batch,
            ).logits
        return logits[0].float()

    def _forward_rows(self, ids_R: Tensor, positions_R: Tensor, batch: RowBatch) -> Tensor:
        return self._forward(ids_R, positions_R, batch, 0)

    def _rotate(self, keys_LHND: Tensor, shifts_N: Tensor) -> Tensor:
        """Rotate keys by some positions, in float32."""
        keys = keys_LHND.float()
        return self._rotary.turn(keys, self._rotary.find_turns(keys, shifts_N)).to(keys_LHND.dtype)

    def _trial_ids(self) -> list[int]:
        return [(i * 7919 + 11) % self.config.vocab_size for i in range(_TRIAL_TOKENS)]

    def _run_own(self) -> Tensor:
        """The model's own logits at the end of the trial text."""
        ids = torch.tensor([self._trial_ids()], device=self.shape.device)
        logits: Tensor = self.network(input_ids=ids, use_cache=False, logits_to_keep=1).logits
        return logits[0].float()

    def _check(self) -> None:
        """Compare with the model's own logits: at once, and after entries that were moved forward and back."""
        ids = self._trial_ids()
        try:
            plain, moved = self._run_trial(ids, shift=0), self._run_trial(ids, shift=_TRIAL_SHIFT)
        except (TypeError, RuntimeError, AttributeError, KeyError, ValueError) as exc:
            raise _refusal(self.name, f"its layers do not take our attention ({exc})") from exc
        self._compare("attention", plain)
        self._compare("positions", moved)

    def _compare(self, what: str, found: Tensor) -> None:
        """Refuse a model whose logits differ by more than rounding, of which bfloat16 does much: up to 0.17 was seen.

        The difference is the root of its mean square, by the logits' own spread. Keys that were not moved with their
        positions make it 0.7 and more.
        """
        tolerance = 0.01 if self.shape.dtype == torch.float32 else 0.35
        spread = float(self._expected.std()) or 1.0
        error = float((found - self._expected).square().mean().sqrt()) / spread
        if not error < tolerance:
            raise _refusal(self.name, f"its {what} are of a kind that a cache with gaps can't hold")

    def _run_trial(self, ids: list[int], shift: int, last_tokens: int = _TRIAL_TOKENS // 2) -> Tensor:
        """The last logits of the trial text, whose first part had stood `shift` positions further on when computed."""
        cache, first = self.new_cache(), len(ids) - last_tokens
        padded = ids[:1] * shift + ids[:first]
        cache.rearrange(padded, [None] * len(padded))
        claim = cache.claim(len(padded))
        if shift:  # the padding is there, but nothing sees it
            assert claim.mask_TN is not None
            claim.mask_TN[shift:, :shift] = float("-inf")
        self.run(Batch([claim]), [])
        cache.rearrange(ids, [*range(shift, shift + first), *[None] * last_tokens])
        return self.run(Batch([cache.claim(last_tokens)]), [0])


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
