"""What a server offers: its pipelines and models, by the names that a request may say, and how much one may ask."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.schema import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """What one request may ask for at most."""

    messages: int = 1024
    keep_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Every pipeline that is open, by name. `backends` are those of every model that a request may name, by model."""

    config: Config
    pipelines: Mapping[str, Pipeline]
    backends: Mapping[str, Backend]
    limits: ApiLimits = field(default_factory=ApiLimits)
