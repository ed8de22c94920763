"""Every prompt under every setup, and under the two that all are measured by; what was computed once is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stairstream.backends.torch.load import Dtype, Loaded
from stairstream.core.graph import Agent
from stairstream.core.policy import PRESETS
from stairstream.eval.kept import Kept, key_of
from stairstream.eval.recorded import PROPOSERS, REFERENCE, RecordedPrompt
from stairstream.eval.retention.forcing import Case, Forced
from stairstream.eval.retention.scores import WAIT, Row, Score, Setup, make_rows
from stairstream.eval.retention.spelled import spell
from stairstream.eval.retention.timetable import Speed, Timetable, make_timetable

VERSION = 2
"""Of what a score means; another one lets kept scores go."""

_WAIT = Setup(name=WAIT, policy=PRESETS["wait"], layout="grouped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to score: prompts and setups; texts are cut after `most_tokens`, None: never. `model` names the file.

    With `late_s` the first proposer's first token comes so many seconds later than those of the others.
    """

    prompts: Sequence[RecordedPrompt]
    setups: Sequence[Setup]
    most_tokens: int | None
    model: str
    dtype: Dtype
    speed: Speed = field(default_factory=Speed)
    late_s: float = 0.0

    @property
    def upstream_speeds(self) -> tuple[Speed, ...]:
        """How fast each proposer is."""
        late = replace(self.speed, first_token_s=self.speed.first_token_s + self.late_s)
        return (late, *[self.speed] * (len(PROPOSERS) - 1))

    @property
    def num_scores(self) -> int:
        """How many scores there are in all."""
        return len(self.prompts) * (len(self.setups) + 2)


def evaluate(
    load: Callable[[], Loaded], plan: Plan, kept: Kept[Score], advance: Callable[[int], None]
) -> tuple[Row, ...]:
    """All scores of a plan, as rows; `advance` is told of each score that is there.

    `load` is called whenever the model is needed, which it is not where everything is kept.
    """
    singles: list[Score] = []
    waits: list[Score] = []
    scores: Mapping[Setup, list[Score]] = {setup: [] for setup in plan.setups}
    for prompt in plan.prompts:
        scorer = _Scorer(load, plan, kept, prompt)
        places: list[tuple[Setup | None, list[Score]]] = [(None, singles), (_WAIT, waits), *scores.items()]
        for setup, place in places:
            place.append(scorer.score(setup))
            advance(1)
    return make_rows(singles, waits, scores)


class _Scorer:
    """One prompt under any setup; nothing is tokenized or computed before it is needed."""

    def __init__(self, load: Callable[[], Loaded], plan: Plan, kept: Kept[Score], prompt: RecordedPrompt) -> None:
        self._load = load
        self._plan = plan
        self._kept = kept
        self._prompt = prompt
        self._agent = Agent(name="aggregator", model="aggregator", reads=PROPOSERS)
        self._case: Case | None = None

    def score(self, setup: Setup | None) -> Score:
        """Under a setup, or None: alone; from what is kept if it is there."""
        plan, prompt = self._plan, self._prompt
        texts = [prompt.instruction, *(prompt.outputs[name] for name in (*PROPOSERS, REFERENCE))]
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
        *whole, whole_answer = (len(encode(outputs[name])) for name in (*PROPOSERS, REFERENCE))
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
                spell(loaded.tokens, self._prompt.outputs[name], self._plan.most_tokens)
                for name in (*PROPOSERS, REFERENCE)
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
