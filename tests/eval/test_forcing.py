"""Teacher forcing against what a torch session itself computes, on a tiny model."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from stairstream.backends.torch.session import TorchSession  # noqa: E402
from stairstream.backends.torch.worker import Worker  # noqa: E402
from stairstream.core.context import Context  # noqa: E402
from stairstream.core.graph import Agent  # noqa: E402
from stairstream.core.messages import question  # noqa: E402
from stairstream.core.prompts import render  # noqa: E402
from stairstream.core.session import AskedLayout, Chunk, Layout  # noqa: E402
from stairstream.eval.retention.forcing import Case  # noqa: E402
from stairstream.eval.retention.spelled import spell  # noqa: E402
from stairstream.eval.retention.timetable import TimedStep  # noqa: E402
from tests.backends.torch.tiny import make_loaded, make_network  # noqa: E402

LOADED = make_loaded()
NETWORK = make_network(vocab_size=len(LOADED.tokens))
ASK = "Tell me about the sea."
AGENT = Agent(name="agg", model="m", reads=("p1", "p2"))
PROPOSALS = [spell(LOADED.tokens, text) for text in ("the sea is deep and salty", "a red rose is no sea, is it?")]
assert [one.num_tokens for one in PROPOSALS] == [6, 12]
ANSWER = spell(LOADED.tokens, "the sea is the sea and deep, the rose is red")
STEPS = (
    TimedStep(start=0, end=3, num_read=(2, 5), is_final=(False, False)),
    TimedStep(start=3, end=7, num_read=(4, 5), is_final=(False, False)),
    TimedStep(start=7, end=9, num_read=(6, 8), is_final=(True, False)),
    TimedStep(start=9, end=ANSWER.num_tokens, num_read=(6, PROPOSALS[1].num_tokens), is_final=(True, True)),
)


class ForcedSampler:
    """Takes the answer's next token whatever the model says, and adds up the negative log-likelihoods."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = iter(ids)
        self.nll = 0.0

    def recall(self, ids: Sequence[int]) -> None:
        """Nothing is penalized."""

    def choose(self, logits_V: Any) -> int:
        token = next(self._ids)
        self.nll -= float(logits_V.log_softmax(-1)[token])
        return token


def chunks_of(before: Sequence[int], step: TimedStep) -> list[Chunk]:
    cut = zip(AGENT.reads, PROPOSALS, before, step.num_read, step.is_final, strict=True)
    parts = [(name, *proposal.between(start, end), is_final) for name, proposal, start, end, is_final in cut]
    return [Chunk(agent=name, text=text, ids=ids, is_final=end) for name, text, ids, end in parts if text or end]


async def write_in_a_session(layout: AskedLayout) -> tuple[float, int]:
    """Negative log-likelihood and computed prompt tokens of the answer in a real session."""
    sampler: Any = ForcedSampler(ANSWER.ids)
    worker = Worker(LOADED.model, LOADED.tokens.end_ids, threads=1)
    agent = Agent(name="agg", model="m", reads=AGENT.reads, layout=layout)
    session = TorchSession(worker, LOADED.tokens, 1000, agent, question(ASK), "", sampler)
    before: tuple[int, ...] = (0, 0)
    computed = 0
    for step in STEPS:
        if chunks := chunks_of(before, step):
            await session.read(chunks)
        before = step.num_read
        *_, ended = [item async for item in session.write(step.end - step.start)]
        computed += ended.usage.prompt_tokens - ended.usage.cached_tokens  # type: ignore[union-attr, operator]
    await session.aclose()
    await asyncio.to_thread(worker.close)
    return sampler.nll, computed


@pytest.mark.parametrize("layout", ["insert", "grouped", "rounds", "regrouped"])
def test_forcing_is_what_a_session_computes(layout: AskedLayout) -> None:
    forced = Case(LOADED, AGENT, ASK, PROPOSALS, ANSWER).force(STEPS, layout)
    nll, computed = asyncio.run(write_in_a_session(layout))
    assert forced.nll == pytest.approx(nll, rel=1e-4)
    assert (forced.num_tokens, forced.computed_tokens) == (ANSWER.num_tokens, computed)


def test_what_is_shown_anew_is_as_likely_as_after_waiting() -> None:
    case, last = Case(LOADED, AGENT, ASK, PROPOSALS, ANSWER), STEPS[-1].start
    rounds, regrouped, grouped = (case.force(STEPS, layout) for layout in ("rounds", "regrouped", "grouped"))
    whole = [TimedStep(start=0, end=ANSWER.num_tokens, num_read=STEPS[-1].num_read, is_final=(True, True))]
    assert regrouped.nlls == (*rounds.nlls[:last], *case.force(whole, "grouped").nlls[last:])
    assert regrouped.nlls[:last] != grouped.nlls[:last]


def nll_anew(prompt: Sequence[int], ids: Sequence[int]) -> float:
    """Computed by the model's own forward, without a cache."""
    with torch.inference_mode():
        logits = NETWORK(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return -float(logits[range(len(ids)), list(ids)].sum())


def test_quoted_and_grouped_are_computed_as_if_anew() -> None:
    layouts: tuple[Layout, ...] = ("quoted", "grouped")
    for layout in layouts:
        context = Context(agent=AGENT, conversation=question(ASK))
        before: tuple[int, ...] = (0, 0)
        expected = 0.0
        for step in STEPS:
            chunks, before = chunks_of(before, step), step.num_read
            context.read(chunks)
            prompt = render(context, layout)
            messages = prompt.messages[:-1] if prompt.continues_last else prompt.messages
            text = LOADED.tokens.apply_template(messages)
            own = ANSWER.ids[: step.start] if prompt.continues_last else ()
            words, ids = ANSWER.between(step.start, step.end)
            expected += nll_anew([*LOADED.tokens.encode(text, is_template=True), *own], ids)
            context.wrote(words)
        forced = Case(LOADED, AGENT, ASK, PROPOSALS, ANSWER).force(STEPS, layout)
        # a session keeps the ids of what it reads, and tokenizes the text between them by itself
        assert forced.nll == pytest.approx(expected, rel=1e-4 if layout == "quoted" else 0.05)


def test_an_answer_that_waits_has_one_step_in_any_layout() -> None:
    case = Case(LOADED, AGENT, ASK, PROPOSALS, ANSWER)
    whole = [TimedStep(start=0, end=ANSWER.num_tokens, num_read=STEPS[-1].num_read, is_final=(True, True))]
    waited = case.force(whole, "grouped")
    assert case.force(whole, "insert") == waited
    assert waited.sent_tokens == waited.computed_tokens > sum(one.num_tokens for one in PROPOSALS)


def test_a_long_context_is_computed_in_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Case(LOADED, AGENT, ASK, PROPOSALS, ANSWER).force(STEPS, "insert")
    monkeypatch.setattr("stairstream.eval.retention.forcing._PASS_TOKENS", 7)
    cut = Case(LOADED, AGENT, ASK, PROPOSALS, ANSWER).force(STEPS, "insert")
    assert cut.nll == pytest.approx(whole.nll, rel=1e-5)
    assert cut.computed_tokens == whole.computed_tokens


def test_alone_an_answer_has_read_nothing() -> None:
    alone = Case(LOADED, AGENT, ASK, PROPOSALS, ANSWER).force_alone()
    prompt = LOADED.tokens.encode(LOADED.tokens.apply_template(question(ASK)), is_template=True)
    assert alone.nll == pytest.approx(nll_anew(prompt, ANSWER.ids), rel=1e-4)
    assert alone.sent_tokens == len(prompt)


def test_a_text_is_cut_only_between_characters() -> None:
    spelled = spell(LOADED.tokens, "aé🌊b")
    assert "".join(spelled.between(i, i + 1)[0] for i in range(spelled.num_tokens)) == "aé🌊b"
    assert sum((spelled.between(i, i + 1)[1] for i in range(spelled.num_tokens)), ()) == spelled.ids
    assert spelled.between(0, 2) == ("a", spelled.ids[:1])
    assert spell(LOADED.tokens, "aé🌊b", 2).text == "a"
