"""Makes tables of outcomes: scores with intervals, differences to waiting and to the best single, times, costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from stairstream.eval.intervals import Interval, bootstrap_mean, wilson
from stairstream.eval.tasks.evaluating import Outcome, Pair, TaskPlan
from stairstream.eval.tasks.lengths import Controlled, control_lengths
from stairstream.eval.tasks.numbers import is_right
from stairstream.eval.tasks.systems import WAIT, System

FEW_QUESTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference of the scores of two systems on the same questions."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One system on one task. Times are medians, tokens means per answer; `cost` is in all, None: unknown.

    `score` is the share of right answers, or the win rate against the opponent; None if nothing could be scored.
    """

    system: str
    is_best_single: bool
    num_scored: int
    score: float | None
    interval: Interval | None
    length_controlled: Controlled | None
    over_wait: Difference | None
    over_single: Difference | None
    first_token_s: float | None
    total_s: float
    prompt_tokens: float
    completion_tokens: float
    cost: float | None
    num_degraded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Statistics of the judge. Of the `num_whole` pairs with two verdicts: the share that agree, and the share won by
    the first answer. Also the replies without a verdict, and the failed calls. Pairs of equal answers are left out."""

    model: str
    num_pairs: int
    num_whole: int
    num_unreadable: int
    num_failed: int
    agreement: float | None
    first_wins: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """A task's table. `opponent` is None where a number decides."""

    task: str
    num_questions: int
    num_asked: int
    opponent: str | None
    rows: tuple[TaskRow, ...]
    judging: Judging | None
    notes: tuple[str, ...]


def score_task(plan: TaskPlan, outcomes: Sequence[Outcome], judge: str | None) -> TaskReport | None:
    """The task's table; None if no question was answered by all systems."""
    if not outcomes:
        return None
    scores = {system.name: _scores(plan, outcomes, system.name) for system in plan.systems}
    best = _best_single(plan.systems, scores)
    rows = tuple(_row(plan, outcomes, system.name, scores, best) for system in plan.systems)
    judging = _judging(outcomes, judge) if judge and plan.task.is_judged else None
    return TaskReport(
        task=plan.task.name,
        num_questions=len(outcomes),
        num_asked=len(plan.questions),
        opponent=plan.opponent if plan.task.is_judged else None,
        rows=rows,
        judging=judging,
        notes=(*_notes_on_table(plan, outcomes, rows, best), *(_notes_on_judge(plan, judging) if judging else ())),
    )


def _scores(plan: TaskPlan, outcomes: Sequence[Outcome], system: str) -> list[float | None]:
    """A system's score per question, between 0 and 1; None where the judge gave no verdict."""
    if not plan.task.is_judged:
        return [float(is_right(one.answers[system][-1].text, one.question.expected)) for one in outcomes]
    if system == plan.opponent:
        return [0.5] * len(outcomes)
    return [_mean([pair.score for pair in one.pairs[system]]) for one in outcomes]


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is missing, or without values."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _best_single(systems: Sequence[System], scores: Mapping[str, Sequence[float | None]]) -> str:
    """The single model with the highest score; among equals the first."""
    singles = [system.name for system in systems if system.model is not None]
    return max(singles, key=lambda name: fmean(_known(scores[name]) or [0.0]))


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _row(
    plan: TaskPlan,
    outcomes: Sequence[Outcome],
    system: str,
    scores: Mapping[str, Sequence[float | None]],
    best: str,
) -> TaskRow:
    said = [one for outcome in outcomes for one in outcome.answers[system]]
    known = _known(scores[system])
    is_opponent = plan.task.is_judged and system == plan.opponent
    costs = [one.cost for one in said if one.cost is not None]
    firsts = [one.first_token_s for one in said if one.first_token_s is not None]
    return TaskRow(
        system=system,
        is_best_single=system == best,
        num_scored=len(known),
        score=fmean(known) if known else None,
        interval=None if is_opponent else _interval(plan, known),
        length_controlled=_controlled(plan, outcomes, system, scores[system]) if plan.task.is_judged else None,
        over_wait=_difference(scores, system, WAIT),
        over_single=_difference(scores, system, best),
        first_token_s=median(firsts) if firsts else None,
        total_s=median(one.total_s for one in said),
        prompt_tokens=fmean(one.prompt_tokens for one in said),
        completion_tokens=fmean(one.completion_tokens for one in said),
        cost=sum(costs) if len(costs) == len(said) else None,
        num_degraded=sum(bool(one.degraded) for one in said),
    )


def _interval(plan: TaskPlan, scores: Sequence[float]) -> Interval | None:
    return bootstrap_mean(scores) if plan.task.is_judged else wilson(round(sum(scores)), len(scores))


def _difference(scores: Mapping[str, Sequence[float | None]], system: str, other: str) -> Difference | None:
    """The difference on questions that both have a score for; None for a system and itself, or without such."""
    pairs = zip(scores[system], scores.get(other, ()), strict=False)
    gaps = [one - its for one, its in pairs if one is not None and its is not None]
    if system == other or not gaps:
        return None
    return Difference(value=fmean(gaps), interval=bootstrap_mean(gaps))


def _controlled(
    plan: TaskPlan, outcomes: Sequence[Outcome], system: str, scores: Sequence[float | None]
) -> Controlled | None:
    if system == plan.opponent:
        return None
    won, longer = [], []
    for outcome, score in zip(outcomes, scores, strict=True):
        if score is not None:
            won.append(score)
            longer.append(_length(outcome, system) - _length(outcome, plan.opponent))
    return control_lengths(won, longer)


def _length(outcome: Outcome, system: str) -> float:
    """Characters of a system's answers, or of the recorded answer if the name is not a system's."""
    if system in outcome.answers:
        return sum(len(said.text) for said in outcome.answers[system])
    return len(outcome.question.outputs[system])


def _judging(outcomes: Sequence[Outcome], model: str) -> Judging:
    pairs = [pair for outcome in outcomes for row in outcome.pairs.values() for pair in row if not pair.is_same]
    whole = [pair for pair in pairs if pair.score is not None]
    verdicts = [one for pair in whole for one in (pair.first, pair.second)]
    decided = [one for one in verdicts if one != "tie"]
    return Judging(
        model=model,
        num_pairs=len(pairs),
        num_whole=len(whole),
        num_unreadable=sum(pair.num_unreadable for pair in pairs),
        num_failed=sum(pair.num_failed for pair in pairs),
        agreement=fmean(_agrees(pair) for pair in whole) if whole else None,
        first_wins=fmean(one == "A" for one in decided) if decided else None,
    )


def _agrees(pair: Pair) -> bool:
    """Whether both orders have the same winner, or none."""
    return {"A": "B", "B": "A", "tie": "tie"}.get(pair.first or "") == pair.second


def _notes_on_table(plan: TaskPlan, outcomes: Sequence[Outcome], rows: Sequence[TaskRow], best: str) -> Iterator[str]:
    """Notes that are needed to read the scores and times."""
    if len(outcomes) < FEW_QUESTIONS:
        yield f"{len(outcomes)} questions: these scores mean little; a difference inside its interval is no difference"
    if any(_is_bare(row, plan) for row in rows):
        yield "where there is no interval, all questions had the same value, so its certainty is unknown"
    if sum(system.model is not None for system in plan.systems) > 1:
        yield f"{best} is the best single model on these same questions, which favours it a little"
    said = [one.at_once for outcome in outcomes for answers in outcome.answers.values() for one in answers]
    if parallel := [at_once for at_once in said if at_once > 1]:
        yield (
            f"{len(parallel)} of {len(said)} answers were bought with --at-once up to {max(parallel)}: their times are "
            "not those of answers bought one at a time"
        )


def _is_bare(row: TaskRow, plan: TaskPlan) -> bool:
    """Whether a number of the row lacks an interval; the opponent's score is 0.5 by definition."""
    is_opponent = plan.task.is_judged and row.system == plan.opponent
    differences = [one for one in (row.over_wait, row.over_single) if one is not None]
    return (
        (row.score is not None and row.interval is None and not is_opponent)
        or (row.length_controlled is not None and row.length_controlled.interval is None)
        or any(one.interval is None for one in differences)
    )


def _notes_on_judge(plan: TaskPlan, judging: Judging) -> Iterator[str]:
    """Notes on how far the verdicts can be trusted."""
    if judging.agreement is not None and judging.agreement < 0.6:
        yield (
            f"the judge contradicts itself in {1 - judging.agreement:.0%} of the pairs when their order is swapped: "
            "its verdicts are mostly noise"
        )
    if judging.num_unreadable:
        share = judging.num_unreadable / (2 * judging.num_pairs - judging.num_failed)
        yield f"{share:.0%} of the judge's replies hold no verdict; such pairs are not scored"
    if judging.num_failed:
        yield f"{judging.num_failed} of {2 * judging.num_pairs} calls of the judge failed; such pairs are not scored"
    if judging.model in {model for system in plan.systems for model in system.settings.models}:
        yield "the judge is one of the models that answered, and may prefer its own answers"
