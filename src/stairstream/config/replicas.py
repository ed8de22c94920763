"""The keys of what runs in copies on a Ray cluster: an engine, or the server itself."""

from dataclasses import dataclass

from stairstream.config.reading import Amount, Positive, Whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaKeys:
    """Copies on a Ray cluster; elsewhere there is one.

    There are `count` of them, or from `count` to `most` if that is given: one is added when those there are have more
    than `target` requests or sessions at once, each. `cpus`, `gpus` and `memory_gb` are what each copy reserves.
    """

    count: Whole = 1
    most: Whole | None = None
    target: Positive = 16.0
    cpus: Amount = 1.0
    gpus: Amount = 0.0
    memory_gb: Positive | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < self.count:
            raise ValueError(f"most must be at least count ({self.count}), not {self.most}")
