"""Teacher forcing with one wrong proposal: the loss in likelihood of the reference, and the gain of the planted words.
Needs torch."""

from collections.abc import Callable, Sequence

from stairstream.backends.torch.load import Loaded
from stairstream.core.graph import Agent
from stairstream.eval.kept import Kept, key_of
from stairstream.eval.retention.forcing import Case
from stairstream.eval.retention.scores import Setup
from stairstream.eval.retention.spelled import spell
from stairstream.eval.retention.timetable import Speed, make_timetable
from stairstream.eval.robustness.plan import (
    RobustnessPlan,
    Wrong,
    changed_by,
    cut,
    proposals_of,
    speeds_of,
    spoil,
    wrong_index,
)
from stairstream.eval.robustness.scores import ForcedRow, Nats, make_row

VERSION = 2


def run_forced(
    loaded: Loaded, plan: RobustnessPlan, kept: Kept[Nats], identity: object, tell: Callable[[int], None]
) -> tuple[ForcedRow, ...]:
    """Scores every prompt under every setup, in each wrong way that changes it; each way must change one."""
    changed = {one: changed_by(plan, one) for one in plan.wrongs}
    found: dict[tuple[Setup, Wrong], list[Nats]] = {(setup, one): [] for setup in plan.setups for one in plan.wrongs}
    for number in range(len(plan.prompts)):
        for wrong in (one for one in plan.wrongs if number in changed[one]):
            scorer = _Scorer(loaded, plan, number, wrong)
            for setup in plan.setups:
                key = key_of(VERSION, identity, scorer.texts, setup.policy, setup.layout)
                one = kept.get(key)
                if one is None:
                    one = scorer.score(setup)
                    kept.put(key, one)
                found[setup, wrong].append(one)
                tell(1)
    return tuple(make_row(setup, wrong, nats, len(plan.prompts) - len(nats)) for (setup, wrong), nats in found.items())


class _Scorer:
    """Scores one prompt with one wrong proposal under any setup; nothing is computed before it is needed."""

    def __init__(self, loaded: Loaded, plan: RobustnessPlan, number: int, wrong: Wrong) -> None:
        index = wrong_index(number, len(plan.proposers))
        prompt, spoilt = plan.prompts[number], spoil(plan, number, wrong)
        right = proposals_of(plan, number)
        mixed = [*right[:index], spoilt.text, *right[index + 1 :]]
        assert plan.reference is not None
        answers = (cut(prompt.outputs[plan.reference], plan.most_words), spoilt.planted.strip())
        self.texts = [(prompt.instruction, proposals, answer) for answer in answers for proposals in (right, mixed)]
        self._loaded = loaded
        self._speeds = speeds_of(index, len(plan.proposers))
        self._agent = Agent(name="aggregator", model="aggregator", reads=plan.proposers)
        self._cases: list[Case] = []

    def score(self, setup: Setup) -> Nats:
        """All four likelihoods."""
        if not self._cases:
            self._cases = [self._make_case(*texts) for texts in self.texts]
        reference_right, reference_wrong, planted_right, planted_wrong = (
            self._force(case, setup) for case in self._cases
        )
        return Nats(
            reference_right=reference_right,
            reference_wrong=reference_wrong,
            planted_right=planted_right,
            planted_wrong=planted_wrong,
        )

    def _make_case(self, prompt: str, proposals: Sequence[str], answer: str) -> Case:
        upstream = [spell(self._loaded.tokens, text) for text in proposals]
        return Case(self._loaded, self._agent, prompt, upstream, spell(self._loaded.tokens, answer))

    def _force(self, case: Case, setup: Setup) -> float:
        table = make_timetable(setup.policy, case.upstream_tokens, case.answer_tokens, Speed(), self._speeds)
        forced = case.force(table.steps, setup.layout)
        return forced.nll / forced.num_tokens
