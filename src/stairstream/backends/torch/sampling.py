"""The choice of the next token."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from stairstream.core.graph import Sampling

_TEMPERATURE = 0.8
"""The default where neither the agent nor the model sets one; as llama.cpp."""


_RECENT_TOKENS = 64
"""The number of last tokens that a repetition penalty looks at; as llama.cpp."""


class Sampler:
    """Chooses tokens for one session, with random numbers of its own."""

    def __init__(self, sampling: Sampling, seed: int, temperature: float | None, top_p: float | None) -> None:
        own = sampling.temperature if sampling.temperature is not None else temperature
        self._temperature = _TEMPERATURE if own is None else own
        self._top_p = (sampling.top_p if sampling.top_p is not None else top_p) or 1.0
        self._penalty = sampling.repetition_penalty or 1.0
        self._recent: deque[int] = deque(maxlen=_RECENT_TOKENS)
        self._seed = seed % 2**63
        self._random: torch.Generator | None = None

    def recall(self, ids: Sequence[int]) -> None:
        """Set the words so far, without the tokens that were chosen in vain after a stop."""
        self._recent = deque(ids[-_RECENT_TOKENS:], maxlen=_RECENT_TOKENS)

    def choose(self, logits_V: Tensor) -> int:
        """The next token; the likeliest one at temperature 0."""
        token = self._draw(self._penalize(logits_V))
        self._recent.append(token)
        return token

    def _penalize(self, logits_V: Tensor) -> Tensor:
        """Logits with those of recent tokens made smaller: divided by the penalty, or multiplied where negative."""
        if self._penalty == 1 or not self._recent:
            return logits_V
        recent = torch.tensor(sorted(set(self._recent)), device=logits_V.device)
        logits_V = logits_V.clone()
        known = logits_V[recent]
        logits_V[recent] = torch.where(known > 0, known / self._penalty, known * self._penalty)
        return logits_V

    def _draw(self, logits_V: Tensor) -> int:
        if self._temperature == 0:
            return int(logits_V.argmax())
        if self._random is None:  # where the logits are: sorting them on a GPU takes a hundredth of the time
            self._random = torch.Generator(logits_V.device).manual_seed(self._seed)
        shares_V = (logits_V / self._temperature).softmax(-1)
        if self._top_p < 1:
            sorted_V, order_V = shares_V.sort(descending=True, stable=True)
            sorted_V[sorted_V.cumsum(-1) - sorted_V >= self._top_p] = 0
            return int(order_V[torch.multinomial(sorted_V, 1, generator=self._random)])
        return int(torch.multinomial(shares_V, 1, generator=self._random))
