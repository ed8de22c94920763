"""Money of one evaluation: what was spent, and what is left."""

import math

from stairstream.config.graphs import models_of
from stairstream.config.schema import Config
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph


class Purse:
    """What may be spent in all; None: any amount."""

    def __init__(self, limit: float | None = None) -> None:
        self._limit = math.inf if limit is None else limit
        self._is_shut = False
        self.spent = 0.0

    @property
    def left(self) -> float | None:
        """What a call may still cost; None: any amount."""
        return None if self._limit == math.inf else max(0.0, self._limit - self.spent)

    @property
    def is_empty(self) -> bool:
        """Whether nothing more may be bought."""
        return self._is_shut or self.spent >= self._limit

    def shut(self) -> None:
        """Nothing more may be bought: a call has come to what was left."""
        self._is_shut = True

    def pay(self, cost: float | None) -> None:
        """Take what something cost; unknown counts as nothing."""
        self.spent += cost or 0.0


def check_priced(config: Config, graphs: list[Graph]) -> None:
    """Raises ConfigError if a model that somebody else runs has no price: then no limit can hold."""
    for name in dict.fromkeys(name for graph in graphs for name in models_of(graph)):
        if config.models[name].is_remote and config.models[name].common.price is None:
            raise ConfigError(
                f"{config.file}: model {name!r} has no price, so --max-cost can't bound it; give it a price"
            )
