"""The pipelines and models that a request may name, and the limits of one request."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.rates import Rates
from stairstream.config.schema import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """Limits of one request."""

    messages: int = 1024
    keep_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The open pipelines by name, and `backends` of all models that a request may name."""

    config: Config
    pipelines: Mapping[str, Pipeline]
    backends: Mapping[str, Backend]
    limits: ApiLimits = field(default_factory=ApiLimits)

    @property
    def rates(self) -> Rates | None:
        """The speeds of models in earlier runs, which all pipelines of a server share."""
        return next((pipeline.rates for pipeline in self.pipelines.values()), None)
