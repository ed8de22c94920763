"""Scores every prompt under every setup and under the two baselines (single, wait); computed scores are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stairstream.backends.in_process.networks import Dtype
from stairstream.backends.torch.load import Loaded
from stairstream.core.graph import Agent
from stairstream.core.policy import PRESETS
from stairstream.eval.data import PROPOSERS, REFERENCE
from stairstream.eval.kept import Kept, key_of
from stairstream.eval.recorded import RecordedPrompt
from stairstream.eval.retention.forcing import Case, Forced
from stairstream.eval.retention.scores import WAIT, RetentionRow, Score, Setup, make_rows
from stairstream.eval.retention.spelled import spell
from stairstream.eval.retention.timetable import Speed, Timetable, make_timetable

VERSION = 2
"""Version of the meaning of a score; a change invalidates kept scores."""

_WAIT = Setup(name=WAIT, policy=PRESETS["wait"], layout="grouped")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPlan:
    """Prompts and setups to score. Texts are cut after `most_tokens` (None: never); `model` names the model file.

    Answers of the systems `proposers` are read, and the one of `reference` is forced. `late_s` delays the first
    proposer's first token by that many seconds.
    """

    prompts: Sequence[RecordedPrompt]
    proposers: tuple[str, ...] = PROPOSERS
    reference: str = REFERENCE
    setups: Sequence[Setup]
    most_tokens: int | None
    model: str
    dtype: Dtype
    speed: Speed = field(default_factory=Speed)
    late_s: float = 0.0

    @property
    def upstream_speeds(self) -> tuple[Speed, ...]:
        """The speed of each proposer."""
        late = replace(self.speed, first_token_s=self.speed.first_token_s + self.late_s)
        return (late, *[self.speed] * (len(self.proposers) - 1))

    @property
    def systems(self) -> tuple[str, ...]:
        """The proposers, and the reference after them."""
        return (*self.proposers, self.reference)

    @property
    def num_scores(self) -> int:
        """Number of scores in all."""
        return len(self.prompts) * (len(self.setups) + 2)


def evaluate(
    load: Callable[[], Loaded], plan: RetentionPlan, kept: Kept[Score], advance: Callable[[int], None]
) -> tuple[RetentionRow, ...]:
    """All scores of a plan, as rows; `advance` is called for each score.

    `load` is called whenever the model is needed, so never if all scores are kept.
    """
    singles: list[Score] = []
    waits: list[Score] = []
    scores: Mapping[Setup, list[Score]] = {setup: [] for setup in plan.setups}
    for prompt in plan.prompts:
        scorer = _Scorer(load, plan, kept, prompt)
        columns: list[tuple[Setup | None, list[Score]]] = [(None, singles), (_WAIT, waits), *scores.items()]
        for setup, column in columns:
            column.append(scorer.score(setup))
            advance(1)
    return make_rows(singles, waits, scores)


class _Scorer:
    """Scores one prompt under any setup; nothing is tokenized or computed before it is needed."""

    def __init__(
        self, load: Callable[[], Loaded], plan: RetentionPlan, kept: Kept[Score], prompt: RecordedPrompt
    ) -> None:
        self._load = load
        self._plan = plan
        self._kept = kept
        self._prompt = prompt
        self._agent = Agent(name="aggregator", model="aggregator", reads=plan.proposers)
        self._case: Case | None = None

    def score(self, setup: Setup | None) -> Score:
        """The score under a setup, or of the answer alone for None; from the kept scores where possible."""
        plan, prompt = self._plan, self._prompt
        texts = [prompt.instruction, *(prompt.outputs[name] for name in plan.systems)]
        how = (setup.policy, setup.layout) if setup else None
        times = (plan.speed, plan.late_s)
        key = key_of(VERSION, plan.model, plan.dtype, plan.most_tokens, times, self._agent.wording, texts, how)
        found = self._kept.get(key)
        if found is None:
            found = self._compute(setup)
            self._kept.put(key, found)
        return found

    def _compute(self, setup: Setup | None) -> Score:
        case, speed = self._open_case(), self._plan.speed
        encode, outputs = self._load().tokens.encode, self._prompt.outputs
        *whole, whole_answer = (len(encode(outputs[name])) for name in self._plan.systems)
        if setup is None:
            alone = make_timetable(None, (), whole_answer, speed)
            return _make_score(case.force_alone(), alone, alone)
        speeds = self._plan.upstream_speeds
        shown = make_timetable(setup.policy, case.upstream_tokens, case.answer_tokens, speed, speeds)
        timed = make_timetable(setup.policy, whole, whole_answer, speed, speeds)
        return _make_score(case.force(shown.steps, setup.layout), shown, timed)

    def _open_case(self) -> Case:
        if self._case is None:
            loaded = self._load()
            *upstream, answer = (
                spell(loaded.tokens, self._prompt.outputs[name], self._plan.most_tokens) for name in self._plan.systems
            )
            self._case = Case(loaded, self._agent, self._prompt.instruction, upstream, answer)
        return self._case


def _make_score(forced: Forced, shown: Timetable, timed: Timetable) -> Score:
    return Score(
        nll=forced.nll,
        num_tokens=forced.num_tokens,
        sent_tokens=forced.sent_tokens,
        computed_tokens=forced.computed_tokens,
        steps=len(shown.steps),
        seen_share=shown.seen_share,
        first_token_s=timed.first_token_s,
        total_s=timed.total_s,
        longest_gap_s=timed.longest_gap_s,
    )
