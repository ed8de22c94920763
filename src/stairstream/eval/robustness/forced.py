"""Teacher forcing with one wrong proposal: how much less likely the reference becomes, how much likelier what was
planted. Needs torch."""

from collections.abc import Callable, Sequence

from stairstream.backends.torch.load import Loaded
from stairstream.core.graph import Agent
from stairstream.eval.recorded import PROPOSERS, REFERENCE
from stairstream.eval.retention.forcing import Case
from stairstream.eval.retention.scores import Setup
from stairstream.eval.retention.spelled import spell
from stairstream.eval.retention.timetable import Speed, make_timetable
from stairstream.eval.robustness.plan import Plan, Wrong, cut, proposals_of, speeds_of, spoil, wrong_place
from stairstream.eval.robustness.scores import ForcedRow, Nats, make_row
from stairstream.eval.tasks.kept import Kept, key_of

VERSION = 1


def run_forced(
    loaded: Loaded, plan: Plan, kept: Kept[Nats], identity: object, tell: Callable[[int], None]
) -> tuple[ForcedRow, ...]:
    """Every prompt under every setup, wrong in every way."""
    found: dict[tuple[Setup, Wrong], list[Nats]] = {(setup, one): [] for setup in plan.setups for one in plan.wrongs}
    for number in range(len(plan.prompts)):
        for (setup, wrong), nats in found.items():
            texts = [plan.prompts[number].instruction, plan.prompts[number].outputs[REFERENCE]]
            key = key_of(
                VERSION,
                identity,
                texts,
                proposals_of(plan, number),
                spoil(plan, number, wrong),
                setup.policy,
                setup.layout,
                plan.most_words,
            )
            one = kept.get(key)
            if one is None:
                one = _score(loaded, plan, number, setup, wrong)
                kept.put(key, one)
            nats.append(one)
            tell(1)
    return tuple(make_row(setup, wrong, nats) for (setup, wrong), nats in found.items())


def _score(loaded: Loaded, plan: Plan, number: int, setup: Setup, wrong: Wrong) -> Nats:
    right = proposals_of(plan, number)
    spoilt = spoil(plan, number, wrong)
    place = wrong_place(number)
    mixed = [*right[:place], spoilt.text, *right[place + 1 :]]
    reference = cut(plan.prompts[number].outputs[REFERENCE], plan.most_words)

    def per_token(proposals: Sequence[str], answer: str) -> float:
        return _force(loaded, plan.prompts[number].instruction, proposals, answer, setup, speeds_of(place))

    return Nats(
        reference_right=per_token(right, reference),
        reference_wrong=per_token(mixed, reference),
        planted_right=per_token(right, spoilt.planted.strip()),
        planted_wrong=per_token(mixed, spoilt.planted.strip()),
    )


def _force(
    loaded: Loaded, asked: str, proposals: Sequence[str], answer: str, setup: Setup, speeds: Sequence[Speed]
) -> float:
    agent = Agent(name="aggregator", model="aggregator", reads=PROPOSERS)
    upstream = [spell(loaded.tokens, text) for text in proposals]
    case = Case(loaded, agent, asked, upstream, spell(loaded.tokens, answer))
    table = make_timetable(setup.policy, case.upstream_tokens, case.answer_tokens, Speed(), speeds)
    forced = case.force(table.steps, setup.layout)
    return forced.nll / forced.num_tokens
