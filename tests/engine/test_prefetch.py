"""Sessions that can prefetch have an update's prompt computed while the step under way still speaks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from stairstream.backends.scripted import Call, Script, ScriptedBackend, numbered_words
from stairstream.core.events import Event, StepEnded, StepStarted
from stairstream.core.metrics import summarize
from stairstream.core.policy import Policy
from tests.engine.staircase import mixture, play, scripted

pytestmark = pytest.mark.manners

CHUNKS = Policy(first_chunk=16, growth=2, quorum="all", patience_s=0)
AGG = Script(
    words=numbered_words("agg", 160), first_token_s=0.25, token_s=0.25, prefill_tokens_per_s=32, caches_prefix=True
)


def models(agg: Script, length: int = 100) -> Mapping[str, ScriptedBackend]:
    return scripted(first_token_s=0.5, token_s=0.25, length=length, agg=agg)


def steps(events: Sequence[Event]) -> list[StepStarted]:
    return [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"]


def test_the_answer_is_the_same_and_its_gaps_are_shorter() -> None:
    plain, events = play(mixture(CHUNKS), models(AGG))
    fast, prefetched = play(mixture(CHUNKS), models(replace(AGG, prefetches=True)))
    assert fast.answer == plain.answer == "".join(AGG.words)
    before, after = summarize(events), summarize(prefetched)
    # an update computes all three references anew, at 32 tokens a second; prefetched, what was written meanwhile
    assert before.longest_gap_s > 8
    assert after.longest_gap_s < 2
    assert after.total_s < before.total_s - 10
    assert after.first_token_s == before.first_token_s


def test_an_update_reads_exactly_what_was_prefetched() -> None:
    backends = models(replace(AGG, prefetches=True))
    _, events = play(mixture(CHUNKS), backends)
    calls = [call for call in backends["agg"].calls if call.agent == "agg"]
    warm = [call for call in calls if call.limit == 1]
    assert warm and len(calls) == len(warm) + len(steps(events))
    for call in warm:
        following = calls[calls.index(call) + 1]
        *head, own = call.prompt.messages
        *same_head, longer = following.prompt.messages
        assert head == same_head
        assert longer.content.startswith(own.content) and len(longer.content) > len(own.content)


def test_what_was_written_meanwhile_is_read_at_the_next_update() -> None:
    _, events = play(mixture(CHUNKS), models(replace(AGG, prefetches=True)))
    ends = {reading.agent: reading for reading in steps(events)[-1].readings}
    assert all(reading.is_final for reading in ends.values())
    for earlier, later in zip(steps(events), steps(events)[1:], strict=False):
        for one, other in zip(earlier.readings, later.readings, strict=True):
            assert other.start == one.end


def test_its_cost_is_in_the_usage() -> None:
    _, events = play(mixture(CHUNKS), models(AGG))
    _, prefetched = play(mixture(CHUNKS), models(replace(AGG, prefetches=True)))

    def prompt_tokens(events: Sequence[Event]) -> int:
        return sum(one.usage.prompt_tokens for one in events if isinstance(one, StepEnded) and one.agent == "agg")

    def early_tokens(events: Sequence[Event]) -> int:
        return sum(one.usage.early_tokens for one in events if isinstance(one, StepEnded) and one.agent == "agg")

    assert early_tokens(events) == 0 < early_tokens(prefetched)
    assert prompt_tokens(prefetched) > prompt_tokens(events)


@pytest.mark.parametrize("num_words", [20, 40])
def test_a_step_that_ends_before_its_prefetch_loses_nothing(num_words: int) -> None:
    """The answer is over before the second update can have been prefetched."""
    agg = replace(AGG, words=numbered_words("agg", num_words), prefetches=True, prefill_tokens_per_s=4)
    run, _ = play(mixture(CHUNKS), models(agg))
    assert run.answer == "".join(agg.words)


def test_an_update_before_the_first_word_is_not_prefetched() -> None:
    """A call that has said nothing has nothing to say meanwhile."""
    agg = replace(AGG, prefetches=True, first_token_s=60)
    backends = models(agg)
    run, _ = play(mixture(CHUNKS), backends)
    assert run.answer == "".join(agg.words)
    assert all(call.limit > 1 for call in backends["agg"].calls)


def test_places_that_do_not_prefetch_have_no_such_method() -> None:
    assert not any(call.limit == 1 for call in _calls_of(AGG))
    assert any(call.limit == 1 for call in _calls_of(replace(AGG, prefetches=True)))


def _calls_of(agg: Script) -> list[Call]:
    backends = models(agg)
    play(mixture(CHUNKS), backends)
    return list(backends["agg"].calls)
