"""The cost model of an endpoint: what a call costs in time, measured by `stairstream calibrate` or by earlier runs."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import yaml

from stairstream.config.yaml_file import load_yaml
from stairstream.core.adaptive import Rate
from stairstream.core.errors import ConfigError

_AT_LEAST_0 = (
    "call_s",
    "prefill_token_s",
    "prefill_context_s",
    "cached_token_s",
    "context_token_s",
    "shared_pass_s",
    "template_tokens",
    "jitter",
)


class EndpointCosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times of one model at one endpoint, in seconds; what was not measured has its default.

    `call_s` passes before the first token of a call without a prompt, and `prefill_token_s` more for each prompt token
    that no cache holds, `prefill_context_s` for each token that stands before such a one, `cached_token_s` for each
    that a cache holds. A prompt has `template_tokens` beside those of its messages. `tokens_per_s` is the speed of one
    answer that has read nothing, by the calls that the endpoint answers at once; `context_token_s` passes more between
    two tokens for each one that stands before them. `pass_tokens` is for engines whose calls share one processor,
    prompts too: a pass computes so many tokens of prompts, the first that came first, and one of each answer, and takes
    `shared_pass_s` more where there are answers. `jitter` is the standard deviation of the time between two tokens over
    its mean, `failures` the share of calls that failed, `answer_tokens` the length of an answer where the user's own
    lengths are not known.
    """

    call_s: float
    tokens_per_s: dict[int, float]
    prefill_token_s: float = 0.0
    prefill_context_s: float = 0.0
    cached_token_s: float = 0.0
    context_token_s: float = 0.0
    pass_tokens: float | None = None
    shared_pass_s: float = 0.0
    template_tokens: float = 0.0
    jitter: float = 0.0
    failures: float = 0.0
    answer_tokens: float | None = None

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(problem)

    def _problems(self) -> Iterator[str]:
        for name in _AT_LEAST_0:
            if not 0 <= getattr(self, name) < math.inf:
                yield f"{name} must be a number of at least 0, not {getattr(self, name)}"
        if not 0 <= self.failures <= 1:
            yield f"failures must be a share from 0 to 1, not {self.failures}"
        if not self.tokens_per_s:
            yield "tokens_per_s must have at least one speed, as {1: 50}"
        for load, speed in self.tokens_per_s.items():
            if load < 1 or not 0 < speed < math.inf:
                yield f"tokens_per_s must be speeds above 0 by calls at once, from 1 on, not {{{load}: {speed}}}"
        if self.shared_pass_s and self.pass_tokens is None:
            yield "shared_pass_s is only for an engine with pass_tokens: leave it out, or give those too"
        for name in ("pass_tokens", "answer_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                yield f"{name} must be a number above 0, or left out, not {value}"

    @property
    def caches(self) -> bool:
        """Whether it has a prefix cache that is worth one: a cached token is half as dear as another, or less."""
        return 2 * self.cached_token_s <= self.prefill_token_s

    def prompt_s(self, tokens: float, cached: float = 0.0) -> float:
        """Seconds in which a prompt is computed that has the processor for itself; a cache holds the first `cached`."""
        fresh = tokens - cached
        fresh_s = self.prefill_token_s + self.prefill_context_s * (cached + fresh / 2)
        return fresh * fresh_s + cached * self.cached_token_s

    def token_s(self, load: int, *, saturates: bool, context: float = 0.0) -> float:
        """Seconds between two tokens of each of `load` answers at once: between measured loads on a line.

        `context` are the tokens before them, of all answers that are computed together. Above the highest measured one
        all answers together get no faster if it `saturates`, else each is as fast as there.
        """
        return self._bare_token_s(load, saturates=saturates) + context * self.context_token_s

    def _bare_token_s(self, load: int, *, saturates: bool) -> float:
        known = sorted(self.tokens_per_s)
        if load <= known[0]:
            return 1 / self.tokens_per_s[known[0]]
        if load >= known[-1]:
            return (load / known[-1] if saturates else 1) / self.tokens_per_s[known[-1]]
        above = next(one for one in known if one >= load)
        below = max(one for one in known if one < load)
        share = (load - below) / (above - below)
        return (1 - share) / self.tokens_per_s[below] + share / self.tokens_per_s[above]

    def pass_s(self, answers: int, context: float = 0.0) -> float:
        """Seconds of a pass of `pass_tokens` of prompts, in which each of so many answers gets one token."""
        assert self.pass_tokens is not None
        return max(
            self.token_s(max(1, answers), saturates=True, context=context),
            (self.pass_tokens + answers) * self.prefill_token_s + (self.shared_pass_s if answers else 0.0),
        )

    def prompts_share(self, answers: int, context: float = 0.0) -> float:
        """The speed of prompts beside so many answers, where they share passes, over that without any answer."""
        assert self.pass_tokens is not None
        if not answers or not self.prefill_token_s:
            return 1.0
        return self.pass_tokens * self.prefill_token_s / self.pass_s(answers, context)


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    models: dict[str, EndpointCosts]


def of_rate(rate: Rate) -> EndpointCosts:
    """The cost model that follows from the speed of earlier runs."""
    token_s = rate.read_token_s or 0.0
    return EndpointCosts(
        call_s=max(0.0, rate.first_token_s - token_s * rate.read_tokens),
        tokens_per_s={1: rate.tokens_per_s},
        prefill_token_s=token_s,
        answer_tokens=rate.answer_tokens,
    )


def read_costs(file: Path) -> dict[str, EndpointCosts]:
    """Cost models by the configuration's names of their models. Raises ConfigError, one line, for a bad file."""
    try:
        return msgspec.convert(load_yaml(file), _File, strict=False).models
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{file}: {exc}; `stairstream calibrate` makes such a file") from exc


def write_costs(costs: Mapping[str, EndpointCosts], head: str) -> str:
    """The file as text, under a comment of these lines; `read_costs` reads it back."""
    comment = "".join(f"# {line}\n" for line in head.splitlines())
    data = msgspec.to_builtins(_File(models=dict(costs)), str_keys=False)
    return comment + yaml.safe_dump(_rounded(data), sort_keys=False)


def _rounded(value: object) -> object:
    """Four digits of every number: more was not measured. What is not known is left out."""
    match value:
        case dict():
            return {key: _rounded(one) for key, one in value.items() if one is not None}
        case float():
            return float(f"{value:.4g}")
        case _:
            return value
