"""One answer of one system, bought or from what was kept, with its numbers."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from stairstream import __version__
from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.graphs import goals_of, models_of
from stairstream.config.schema import Config
from stairstream.core.errors import BackendError, RunFailed
from stairstream.core.messages import Conversation
from stairstream.core.session import Usage
from stairstream.eval.tasks.kept import Kept, key_of
from stairstream.eval.tasks.purse import Purse
from stairstream.eval.tasks.systems import System, identify_models

MOST_FAILURES = 3
"""So many answers that fail one after the other end the evaluation."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An answer and what it took. `cost` None: unknown. `seen_share` as in metrics.Summary."""

    text: str
    ended: str
    first_token_s: float | None
    total_s: float
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    updates: int
    seen_share: float | None
    degraded: tuple[str, ...] = ()


class OutOfMoney(Exception):
    """The purse is empty; only within an evaluation, which ends with what it has."""


class Asker:
    """Asks systems; what was kept is not asked again."""

    def __init__(
        self,
        config: Config,
        systems: Mapping[str, System],
        backends: Mapping[str, Backend],
        kept: Kept[Said],
        purse: Purse,
    ) -> None:
        self._config = config
        self._systems = systems
        self._backends = backends
        self._kept = kept
        self._purse = purse
        self._ids = {
            name: key_of(
                __version__,
                system.graph,
                goals_of(system.settings, system.graph),
                identify_models(config.models, models_of(system.graph)),
            )
            for name, system in systems.items()
        }
        self._failed_in_a_row = 0
        self.failures: list[str] = []
        self.num_asked = 0
        self.num_kept = 0

    async def ask(self, name: str, conversation: Conversation) -> Said | None:
        """What a system says to a conversation; None if it failed, which `failures` then tells.

        Raises OutOfMoney before it would spend more than there is, and RunFailed if too many fail in a row.
        """
        key = key_of(self._ids[name], conversation)
        if (said := self._kept.get(key)) is not None:
            self.num_kept += 1
            return said
        if self._purse.is_empty:
            raise OutOfMoney
        said = await self._buy(self._systems[name], conversation)
        if said is not None:
            self._kept.put(key, said)
        return said

    async def _buy(self, system: System, conversation: Conversation) -> Said | None:
        limits, left = system.settings.limits, self._purse.left
        is_bound = left is not None and (limits.max_cost is None or left < limits.max_cost)
        settings = replace(system.settings, limits=replace(limits, max_cost=left)) if is_bound else system.settings
        pipeline = Pipeline(settings, system.graph, self._backends, self._config)
        self.num_asked += 1
        try:
            answer = await pipeline.ask(conversation)
        except (BackendError, RunFailed) as exc:
            self._count_failure(system.name, exc)
            return None
        self._failed_in_a_row = 0
        self._purse.pay(answer.cost)
        summary = answer.summary
        if summary.reason == "budget" and is_bound:
            self._purse.shut()
            raise OutOfMoney
        usage = sum((one.usage for one in summary.agents), start=Usage(cached_tokens=0))
        return Said(
            text=answer.text,
            ended=summary.reason or "",
            first_token_s=summary.first_token_s,
            total_s=summary.total_s,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=answer.cost,
            updates=summary.updates,
            seen_share=summary.seen_share,
            degraded=summary.degraded,
        )

    def _count_failure(self, name: str, error: Exception) -> None:
        self.failures.append(f"{name}: {error}")
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= MOST_FAILURES:
            raise RunFailed(f"{MOST_FAILURES} answers failed one after the other; the last: {name}: {error}") from error
