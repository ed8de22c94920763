"""The cost model of an endpoint: what a call costs in time, measured by `stairstream calibrate` or by earlier runs."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from stairstream.config.yaml_file import load_yaml
from stairstream.core.adaptive import Rate
from stairstream.core.errors import ConfigError


class EndpointCosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times of one model at one endpoint, in seconds; what was not measured has its default.

    `call_s` passes before the first token of a call without a prompt, and `prefill_token_s` more for each prompt token
    that no cache holds, `cached_token_s` for each that one holds. `tokens_per_s` is the speed of one answer, by the
    calls that the endpoint answers at once. `pass_tokens` is for engines whose calls share one processor, prompts too:
    a pass computes so many tokens of prompts, and one of each answer. `jitter` is the standard deviation of the time
    between two tokens over its mean, `failures` the share of calls that failed, `answer_tokens` the length of an answer
    where the user's own lengths are not known.
    """

    call_s: float
    tokens_per_s: dict[int, float]
    prefill_token_s: float = 0.0
    cached_token_s: float = 0.0
    pass_tokens: float | None = None
    jitter: float = 0.0
    failures: float = 0.0
    answer_tokens: float | None = None

    def __post_init__(self) -> None:
        times = (self.call_s, self.prefill_token_s, self.cached_token_s, self.jitter, self.failures)
        if min(times) < 0 or not self.tokens_per_s or min(self.tokens_per_s.values()) <= 0:
            raise ValueError("times are not below 0, and tokens_per_s has at least one number above 0")
        if self.pass_tokens is not None and self.pass_tokens <= 0:
            raise ValueError("pass_tokens is above 0, or left out")

    @property
    def caches(self) -> bool:
        """Whether it has a prefix cache that is worth one: a cached token is half as dear as another, or less."""
        return 2 * self.cached_token_s <= self.prefill_token_s

    def token_s(self, load: int, *, saturates: bool) -> float:
        """Seconds between two tokens of each of `load` answers at once: between measured loads on a line.

        Above the highest measured one all answers together get no faster if it `saturates`, else each is as fast as
        there.
        """
        known = sorted(self.tokens_per_s)
        if load <= known[0]:
            return 1 / self.tokens_per_s[known[0]]
        if load >= known[-1]:
            return (load / known[-1] if saturates else 1) / self.tokens_per_s[known[-1]]
        above = next(one for one in known if one >= load)
        below = max(one for one in known if one < load)
        share = (load - below) / (above - below)
        return (1 - share) / self.tokens_per_s[below] + share / self.tokens_per_s[above]


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
