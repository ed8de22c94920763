"""What the fake endpoint does to everybody: the same models, speeds and lengths for all, in four scenarios."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.peers.recipes.turns import Task

TOKENS = 300
LIMIT_S = 40.0
"""After this an answer is cut off: it is thrice the time that anybody needs whom nothing holds up."""

_PLAIN: Mapping[str, object] = {"first_token_s": 0.2, "token_s": 0.02, "length": TOKENS}
_PROPOSERS, _AGGREGATOR = ("p1", "p2", "p3"), "agg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Keys of the fake models: those of all, and those of the last proposer."""

    name: str
    title: str
    keys: Mapping[str, object] = field(default_factory=dict)
    last: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_for_one_model(self) -> bool:
        """Whether it says something about a system that asks one model only, the aggregator's."""
        return not self.last

    def models(self) -> dict[str, Mapping[str, object]]:
        """The fake models by their names, which are the scenario's own."""
        own = {f"{self.name}-{name}": {**_PLAIN, **self.keys} for name in (*_PROPOSERS, _AGGREGATOR)}
        last = f"{self.name}-{_PROPOSERS[-1]}"
        return {**own, last: {**own[last], **self.last}}

    def task(self, question: str) -> Task:
        """The question for the models of this scenario."""
        proposers = [f"{self.name}-{name}" for name in _PROPOSERS]
        return Task(question=question, proposers=proposers, aggregator=f"{self.name}-{_AGGREGATOR}")


QUICK = Scenario(name="quick", title="warm-up", keys={"first_token_s": 0.0, "token_s": 0.0, "length": 3})
SCENARIOS = (
    Scenario(name="plain", title="prefill free"),
    Scenario(name="prefill", title="prefill of 2,000 tokens/s", keys={"prefill_tokens_per_s": 2000}),
    Scenario(
        name="straggler",
        title="one proposer three times slower",
        last={"first_token_s": 0.6, "token_s": 0.06},
    ),
    Scenario(
        name="hung",
        title="one proposer hangs before its first token",
        last={"fault": {"kind": "hang", "after_tokens": 0}},
    ),
)
