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
    calls that the endpoint answers at once. `jitter` is the standard deviation of the time between two tokens over its
    mean, `failures` the share of calls that failed, `answer_tokens` the length of an answer where the user's own
    lengths are not known.
    """

    call_s: float
    tokens_per_s: dict[int, float]
    prefill_token_s: float = 0.0
    cached_token_s: float = 0.0
    jitter: float = 0.0
    failures: float = 0.0
    answer_tokens: float | None = None

    def __post_init__(self) -> None:
        times = (self.call_s, self.prefill_token_s, self.cached_token_s, self.jitter, self.failures)
        if min(times) < 0 or not self.tokens_per_s or min(self.tokens_per_s.values()) <= 0:
            raise ValueError("times are not below 0, and tokens_per_s has at least one number above 0")

    def token_s(self, load: int) -> float:
        """Seconds between two tokens of an answer while the endpoint answers `load` calls at once.

        Between measured loads as the nearest lower one says; below the least measured one as that says.
        """
        known = [one for one in self.tokens_per_s if one <= load]
        return 1 / self.tokens_per_s[max(known) if known else min(self.tokens_per_s)]


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
    """Four digits of every number: more was not measured."""
    match value:
        case dict():
            return {key: _rounded(one) for key, one in value.items()}
        case float():
            return float(f"{value:.4g}")
        case _:
            return value
