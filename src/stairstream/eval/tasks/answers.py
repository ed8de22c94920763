"""Gets one answer of one system, from a model or from the kept answers, with its numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from stairstream import __version__
from stairstream.answer import Answer
from stairstream.api import Pipeline
from stairstream.backends.base import Backend
from stairstream.config.graphs import goals_of, models_of
from stairstream.config.pipelines import RunKeys
from stairstream.config.schema import Config
from stairstream.core.errors import BackendError, RunFailed
from stairstream.core.messages import Conversation
from stairstream.core.session import Usage
from stairstream.eval.identity import identify_models
from stairstream.eval.kept import Kept, key_of
from stairstream.eval.tasks.purse import OutOfMoney, Purse
from stairstream.eval.tasks.systems import System

MOST_FAILURES = 3
"""This many failed answers of a system in a row end the evaluation."""

_CUT = ("deadline", "budget")
"""End reasons of an answer that was cut off."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An answer with its numbers, when `at_once` ran in parallel. `cost` None: unknown. `seen_share`: see Summary."""

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
    at_once: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An answer that failed: the system and its error."""

    system: str
    error: str


class AnswerSource:
    """Gets answers from systems; a kept answer is not computed again."""

    def __init__(
        self,
        config: Config,
        systems: Mapping[str, System],
        backends: Mapping[str, Backend],
        kept: Kept[Said],
        purse: Purse,
        at_once: int = 1,
    ) -> None:
        """`at_once` answers run at the same time; the number is kept with their times."""
        self._config = config
        self._systems = systems
        self._backends = backends
        self._kept = kept
        self._purse = purse
        self._at_once = at_once
        self._ids = {name: _identify(config, system) for name, system in systems.items()}
        self._failed_in_a_row: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self.num_asked = 0
        self.num_kept = 0
        self.num_passing = 0

    async def ask(self, name: str, conversation: Conversation) -> Said | None:
        """A system's answer to a conversation; None if it failed, which adds to `failures`.

        Raises OutOfMoney before it would spend more than is left, and RunFailed if MOST_FAILURES fail in a row.
        """
        key = key_of(self._ids[name], conversation)
        # older files also hold answers that had been cut
        if (said := self._kept.get(key)) is not None and said.ended not in _CUT:
            self.num_kept += 1
            return said
        answer = await self._buy(self._systems[name], conversation)
        if answer is None:
            return None
        said = _sum_up(answer, self._at_once)
        if _is_lasting(answer):
            self._kept.put(key, said)
        else:
            self.num_passing += 1
        return said

    async def _buy(self, system: System, conversation: Conversation) -> Answer | None:
        """An answer, paid for in any case; None if it failed."""
        async with self._purse.set_aside(system.name) as most:
            limits = system.settings.limits
            is_bound = most is not None and (limits.max_cost is None or most < limits.max_cost)
            settings = replace(system.settings, limits=replace(limits, max_cost=most)) if is_bound else system.settings
            pipeline = Pipeline(settings, system.graph, self._backends, self._config)
            self.num_asked += 1
            try:
                answer = await _run(pipeline, conversation)
            except BackendError as exc:
                self._count_failure(system.name, str(exc))
                return None
            self._purse.pay(system.name, answer.cost)
            if is_bound and _is_out_of_money(answer):
                self._purse.shut()
                raise OutOfMoney
        if answer.summary.reason == "failed":
            self._count_failure(system.name, answer.summary.error or "the run failed")
            return None
        self._failed_in_a_row[system.name] = 0
        return answer

    def _count_failure(self, name: str, error: str) -> None:
        self.failures.append(Failure(system=name, error=error))
        self._failed_in_a_row[name] += 1
        if self._failed_in_a_row[name] >= MOST_FAILURES:
            raise RunFailed(f"{MOST_FAILURES} answers of {name} failed one after the other; the last: {error}")


def _identify(config: Config, system: System) -> str:
    """A key of everything that a system's answers depend on besides the question, without the purse's limits."""
    limits = system.settings.limits
    return key_of(
        __version__,
        system.graph,
        goals_of(system.settings, system.graph),
        identify_models(config.models, models_of(system.graph)),
        *([limits] if limits != RunKeys() else []),
    )


async def _run(pipeline: Pipeline, conversation: Conversation) -> Answer:
    """Asks as Pipeline.ask does, but returns the numbers of a failed run too."""
    async with pipeline.open_run(conversation) as run:
        return pipeline.make_answer(run, [event async for event in run.events()])


def _is_out_of_money(answer: Answer) -> bool:
    """Whether the answer was cut off by its cost limit, even before its first token."""
    return any(one.name == answer.graph.answer and one.reason == "budget" for one in answer.summary.agents)


def _is_lasting(answer: Answer) -> bool:
    """Whether the answer may be kept: it was not cut off, and no agent failed that might not fail again."""
    lacking = (one.reason in ("dropped", "failed") or one.num_failovers for one in answer.summary.agents)
    return answer.summary.reason not in _CUT and not any(lacking)


def _sum_up(answer: Answer, at_once: int) -> Said:
    summary = answer.summary
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
        at_once=at_once,
    )
