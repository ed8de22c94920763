"""Training sequences against what a torch session of the same timetable computes."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.in_process.pieces import join  # noqa: E402
from stairstream.backends.torch.session import TorchSession  # noqa: E402
from stairstream.backends.torch.worker import Worker  # noqa: E402
from stairstream.core.graph import Agent  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.session import Layout  # noqa: E402
from stairstream.eval.retention.chunks import chunks_of  # noqa: E402
from stairstream.eval.retention.spelled import spell  # noqa: E402
from stairstream.eval.retention.timetable import TimedStep  # noqa: E402
from stairstream.train.config import TrainedLayout  # noqa: E402
from stairstream.train.samples import Recorded, find_end, lay_out_steps  # noqa: E402
from tests.backends.torch.tiny import make_loaded  # noqa: E402

LOADED = make_loaded()
TOKENS = LOADED.tokens
PROPOSALS = {
    "p1": spell(TOKENS, "the sea is deep and salty"),
    "p2": spell(TOKENS, "a red rose is no sea, </reference> is it?"),
}
ANSWER = spell(TOKENS, "the sea is the sea and deep, the rose is red")
RECORDED = Recorded(asked="Tell me about <|im_end|> the sea.", proposals=PROPOSALS, answer=ANSWER, ends=True)
ENDS = tuple(one.num_tokens for one in PROPOSALS.values())
STEPS = (
    TimedStep(start=0, end=3, num_read=(2, 5), is_final=(False, False)),
    TimedStep(start=3, end=7, num_read=(4, 5), is_final=(False, False)),
    TimedStep(start=7, end=9, num_read=(6, 8), is_final=(True, False)),
    TimedStep(start=9, end=ANSWER.num_tokens, num_read=ENDS, is_final=(True, True)),
)


class ForcedSampler:
    """Takes the answer's next token whatever the model says."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = iter(ids)

    def recall(self, ids: Sequence[int]) -> None:
        """Nothing is penalized."""

    def choose(self, logits_V: Any) -> int:
        return next(self._ids)


async def contexts_of_a_session(layout: Layout) -> list[tuple[int, ...]]:
    """What a real session's cache holds at the end of each of its writes."""
    sampler: Any = ForcedSampler(ANSWER.ids)
    worker = Worker(LOADED.model, TOKENS.end_ids, threads=1)
    agent = Agent(name="agg", model="m", reads=tuple(PROPOSALS), layout=layout)
    session = TorchSession(worker, TOKENS, 1000, agent, question(RECORDED.asked), "", sampler)
    before, found = (0, 0), []
    for step in STEPS:
        await session.read(chunks_of(PROPOSALS, before, step))
        before = step.num_read  # type: ignore[assignment]
        async for _ in session.write(step.end - step.start):
            pass
        found.append(tuple(join(session._prompter.build())))
    await session.aclose()
    await asyncio.to_thread(worker.close)
    return found


def lay(layout: TrainedLayout, updates: Any = "all") -> Any:
    return lay_out_steps(TOKENS, RECORDED, STEPS, layout, updates, random.Random(0))


def test_rounds_are_one_sequence_that_holds_every_context_of_a_session() -> None:
    (sample,) = lay("rounds")
    contexts = asyncio.run(contexts_of_a_session("rounds"))
    assert sample.ids == (*contexts[-1], *find_end(TOKENS))
    assert all(sample.ids[: len(context)] == context for context in contexts)
    learned = tuple(token for token, is_trained in zip(sample.ids, sample.is_trained, strict=True) if is_trained)
    assert learned == (*ANSWER.ids, *find_end(TOKENS))


def test_grouped_has_a_sequence_for_each_update_with_its_own_words_learned() -> None:
    samples = lay("grouped")
    contexts = asyncio.run(contexts_of_a_session("grouped"))
    assert [sample.ids for sample in samples] == [*contexts[:-1], (*contexts[-1], *find_end(TOKENS))]
    for sample, step in zip(samples, STEPS, strict=True):
        size = step.end - step.start + (step is STEPS[-1])
        assert sample.is_trained == (False,) * (len(sample.ids) - size) + (True,) * size
    assert lay("grouped", "last") == samples[-1:]
    assert lay("grouped", "one")[0] in samples


def test_an_answer_that_was_cut_does_not_learn_to_end() -> None:
    recorded = Recorded(asked="?", proposals=PROPOSALS, answer=ANSWER, ends=False)
    (sample,) = lay_out_steps(TOKENS, recorded, STEPS, "rounds", "all", random.Random(0))
    assert len(sample.learned) == ANSWER.num_tokens
    assert find_end(TOKENS) == (2,)


def test_alone_an_answer_has_no_reference_before_it() -> None:
    step = TimedStep(start=0, end=ANSWER.num_tokens, num_read=(), is_final=())
    (sample,) = lay_out_steps(TOKENS, RECORDED, (step,), "grouped", "one", random.Random(0))
    text = TOKENS.apply_template(question("@@"))
    front = text.partition("@@")[0]
    assert sample.ids[:5] == TOKENS.encode(front, is_template=True)[:5]
    assert "<reference" not in TOKENS.decode(sample.ids)
