"""Sequences that grew in their middle, against what a session's cache makes of the same answer."""

import random
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.core.errors import ModelUnusable  # noqa: E402
from stairstream.core.graph import Agent  # noqa: E402
from stairstream.eval.retention.forcing import Case  # noqa: E402
from stairstream.eval.retention.timetable import TimedStep  # noqa: E402
from stairstream.train.attention import use_insertions  # noqa: E402
from stairstream.train.data import Row  # noqa: E402
from stairstream.train.samples import Recorded, lay_out_steps  # noqa: E402
from stairstream.train.sequences import Sample  # noqa: E402
from stairstream.train.step import nll_of  # noqa: E402
from tests.backends.torch.tiny import make_loaded, make_network  # noqa: E402
from tests.train.test_samples import ANSWER, PROPOSALS, RECORDED, STEPS, TOKENS  # noqa: E402
from tests.train.tiny import CPU, make_row  # noqa: E402

CUT = replace(RECORDED, ends=False)
AGENT = Agent(name="aggregator", model="aggregator", reads=tuple(PROPOSALS))


def lay(recorded: Recorded = CUT, steps: tuple[TimedStep, ...] = STEPS) -> Sample:
    (sample,) = lay_out_steps(TOKENS, recorded, steps, "insert", "all", random.Random(0))
    return sample


def make_trainable() -> Any:
    network = make_network(vocab_size=len(TOKENS)).train()
    use_insertions(network)
    return network


def nll(network: Any, *samples: Sample) -> float:
    return float(nll_of(network, Row(samples=samples), CPU).detach())


def forced_nll(steps: tuple[TimedStep, ...] = STEPS) -> float:
    case = Case(make_loaded(), AGENT, RECORDED.asked, tuple(PROPOSALS.values()), ANSWER)
    return case.force(steps, "insert").nll


def many_steps() -> tuple[TimedStep, ...]:
    """A token of each proposal and one of the answer at a time, so that the question is computed again on the way."""
    ends = [one.num_tokens for one in PROPOSALS.values()]
    size = ANSWER.num_tokens
    return tuple(
        TimedStep(
            start=at,
            end=at + 1,
            num_read=tuple(min(end, at + 1) if at + 1 < size else end for end in ends),
            is_final=tuple(at + 1 >= end or at + 1 == size for end in ends),
        )
        for at in range(size)
    )


@pytest.mark.parametrize("steps", [STEPS, STEPS[2:], many_steps()], ids=["few", "late", "many"])
def test_it_is_as_likely_as_a_sessions_cache_finds_it(steps: tuple[TimedStep, ...]) -> None:
    steps = (replace(steps[0], start=0), *steps[1:])
    assert nll(make_trainable(), lay(steps=steps)) == pytest.approx(forced_nll(steps), rel=1e-5)


def test_every_word_of_the_answer_is_learned_once() -> None:
    sample = lay(RECORDED)
    (whole,) = lay_out_steps(TOKENS, RECORDED, STEPS, "rounds", "all", random.Random(0))
    learned = [token for _, token in sample.learned]
    assert learned == [token for _, token in whole.learned]
    assert [token for token, flag in zip(sample.ids, sample.is_trained, strict=True) if flag] == learned


def test_samples_of_a_row_do_not_see_each_other() -> None:
    network, (plain,) = make_trainable(), make_row(20).samples
    alone = nll(network, lay()) + nll(network, plain)
    assert nll(network, plain, lay(), lay()) == pytest.approx(alone + nll(network, lay()), rel=1e-5)


def test_its_beginning_is_what_it_was() -> None:
    network, sample = make_trainable(), lay()
    for most in (1, 60, 100, len(sample.ids) - 3):
        short = sample.cut(most)
        assert len(short.ids) == len(short.positions) == most
        if short.learned:
            whole = sum(nll(network, replace(sample, insertions=_only(sample, pair))) for pair in short.learned)
            assert nll(network, short) == pytest.approx(whole, rel=1e-4)


def _only(sample: Sample, pair: tuple[int, int]) -> Any:
    assert sample.insertions is not None
    return replace(sample.insertions, learned=(pair,))


def test_a_network_whose_positions_cant_move_is_one_line() -> None:
    network = make_network()
    network.base_model.rotary_emb.rope_type = "longrope"
    with pytest.raises(ModelUnusable, match=r"^the layout insert can't be trained with LlamaForCausalLM: its rotary"):
        use_insertions(network)


def test_all_that_was_computed_learns() -> None:
    network = make_trainable()
    loss: Any = nll_of(network, Row(samples=(lay(),)), CPU)
    loss.backward()
    assert all(bool(weight.grad.abs().sum() > 0) for weight in network.parameters())
