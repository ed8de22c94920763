"""Runs a whole task: every system answers every question, and a judge compares. `scores` makes the tables."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stairstream.core.errors import ConfigError
from stairstream.core.messages import Conversation, Message
from stairstream.engine.tasks import TaskBlock, pick_first
from stairstream.eval.tasks.answers import AnswerSource, Said
from stairstream.eval.tasks.judging import Verdict, ask_verdict, read_verdict, score_of
from stairstream.eval.tasks.purse import OutOfMoney
from stairstream.eval.tasks.questions import Question, Task
from stairstream.eval.tasks.systems import System

JUDGE = "judge"
Tell = Callable[[int], None]
"""Called with the number of answers and verdicts that were added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """A task to run. `opponent` is the system, or the recorded answer, that all others are compared with."""

    task: Task
    questions: Sequence[Question]
    systems: Sequence[System]
    opponent: str

    @property
    def judged(self) -> tuple[str, ...]:
        """The systems that are compared with the opponent."""
        return tuple(one.name for one in self.systems if one.name != self.opponent) if self.task.is_judged else ()

    @property
    def num_asks(self) -> int:
        """Number of answers and verdicts in all."""
        turns = sum(len(question.turns) for question in self.questions)
        return turns * (len(self.systems) + 2 * len(self.judged))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two verdicts on one pair of answers: with the system's answer first, and second.

    A verdict is None if the judge's call failed (`num_failed`) or its reply can't be read. Equal answers (`is_same`)
    are a tie without a call.
    """

    first: Verdict | None
    second: Verdict | None
    num_failed: int = 0
    is_same: bool = False

    @property
    def num_unreadable(self) -> int:
        """Replies that hold no verdict."""
        return (self.first, self.second).count(None) - self.num_failed

    @property
    def score(self) -> float | None:
        """The system's score: 1 if it won both times, 0 if it lost both, else between; None if a verdict is missing."""
        if self.first is None or self.second is None:
            return None
        return (score_of(self.first) + 1 - score_of(self.second)) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a question, by system: the answers and the verdicts of each turn."""

    question: Question
    answers: Mapping[str, Sequence[Said]]
    pairs: Mapping[str, Sequence[Pair]] = field(default_factory=dict)


def check_opponent(plan: TaskPlan) -> None:
    """Raises ConfigError for an opponent that neither answers here nor has recorded answers to every question."""
    names = [system.name for system in plan.systems]
    if not plan.task.is_judged or plan.opponent in names:
        return
    lacking = [one.id for one in plan.questions if plan.opponent not in one.outputs]
    if lacking:
        recorded = sorted({name for one in plan.questions for name in one.outputs})
        raise ConfigError(f"--against {plan.opponent!r} is none of: {', '.join([*names, *recorded])}")


async def evaluate(plan: TaskPlan, source: AnswerSource, tell: Tell, at_once: int = 1) -> list[Outcome]:
    """The questions that were answered by all systems (and judged), in their order; fewer if the money runs out.

    Raises what AnswerSource.ask raises when too much fails.
    """
    permits = asyncio.Semaphore(at_once)

    async def work(question: Question) -> Outcome | None:
        async with permits:
            try:
                return await _Question(plan, question, source, tell).run()
            except OutOfMoney:
                return None

    async with TaskBlock() as tasks:
        tasks.pick = pick_first
        running = [tasks.create_task(work(question)) for question in plan.questions]
    return [outcome for one in running if (outcome := one.result()) is not None]


class _Question:
    """Runs one question of a plan."""

    def __init__(self, plan: TaskPlan, question: Question, source: AnswerSource, tell: Tell) -> None:
        self._plan = plan
        self._question = question
        self._source = source
        self._tell = tell

    async def run(self) -> Outcome | None:
        """The question's outcome; None if a system failed."""
        answers: dict[str, list[Said]] = {}
        for system in self._plan.systems:
            said = await self._answer(system.name)
            if said is None:
                return None
            answers[system.name] = said
        texts = {name: [one.text for one in said] for name, said in answers.items()}
        pairs: dict[str, list[Pair]] = {}
        for name in self._plan.judged:
            against = texts.get(self._plan.opponent) or [self._question.outputs[self._plan.opponent]]
            pairs[name] = [await self._judge(texts[name], against, turn) for turn in range(len(against))]
        return Outcome(question=self._question, answers=answers, pairs=pairs)

    async def _answer(self, system: str) -> list[Said] | None:
        conversation: Conversation = ()
        found = []
        for turn in self._question.turns:
            conversation = (*conversation, Message(role="user", content=turn))
            said = await self._source.ask(system, conversation)
            self._tell(1)
            if said is None:
                return None
            conversation = (*conversation, Message(role="assistant", content=said.text))
            found.append(said)
        return found

    async def _judge(self, own: Sequence[str], against: Sequence[str], turn: int) -> Pair:
        """Asks the judge in both orders; equal answers are a tie without a call."""
        until = turn + 1
        if own[:until] == against[:until]:
            self._tell(2)
            return Pair(first="tie", second="tie", is_same=True)
        turns = self._question.turns[:until]
        replies = [
            await self._reply(ask_verdict(turns, own[:until], against[:until])),
            await self._reply(ask_verdict(turns, against[:until], own[:until])),
        ]
        first, second = (None if reply is None else read_verdict(reply.text) for reply in replies)
        return Pair(first=first, second=second, num_failed=replies.count(None))

    async def _reply(self, conversation: Conversation) -> Said | None:
        said = await self._source.ask(JUDGE, conversation)
        self._tell(1)
        return said
