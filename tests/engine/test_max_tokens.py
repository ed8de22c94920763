"""An endpoint keeps to max_tokens by its own count: where ours is below it, the run ends with `length` all the same."""

from collections.abc import Mapping

import pytest

from stairstream.backends.scripted import Manner, Script, numbered_words
from stairstream.core.events import RunEnded
from stairstream.core.policy import PRESETS
from tests.engine.staircase import mixture, play, scripted

WORDS = numbered_words("w", 200)
MANNERS: Mapping[str, Manner] = {
    "one by one": Manner(),
    "two at a time": Manner(batch=2),
    "five at a time": Manner(batch=5),
    "drawn": Manner(batch=(1, 6)),
    "some without text": Manner(silent_every=7),
    "two at a time, counted at the end": Manner(batch=2, usage="at_end"),
    "five at a time, rounded": Manner(batch=5, usage="rounded"),
    "drawn, never counted": Manner(batch=(1, 6), silent_every=7, usage="none"),
}


@pytest.mark.parametrize("policy", ["balanced", "paper", "wait"])
@pytest.mark.parametrize("sent", MANNERS.values(), ids=MANNERS)
def test_a_run_that_reaches_max_tokens_ends_with_length(sent: Manner, policy: str) -> None:
    for max_tokens in range(20, 61, 2):
        agg = Script(words=WORDS, first_token_s=0.5, token_s=0.25, manner=sent)
        run, events = play(mixture(PRESETS[policy], max_tokens=max_tokens), scripted(length=30, agg=agg))
        assert isinstance(events[-1], RunEnded)
        assert events[-1].reason == "length", max_tokens
        num_words = len(run.answer.split())
        assert run.answer == "".join(WORDS[:num_words]), max_tokens
        if sent.usage == "exact":
            silent = max_tokens // sent.silent_every if sent.silent_every else 0
            assert max_tokens - silent <= num_words <= max_tokens
        else:
            assert num_words >= max_tokens / 2


@pytest.mark.parametrize("policy", ["balanced", "paper", "wait"])
def test_a_run_ends_also_where_the_answer_begins_anew_with_every_step(policy: str) -> None:
    for max_tokens in range(20, 61, 2):
        agg = Script(words=numbered_words("w", 60), first_token_s=0.5, token_s=0.25, ignores_prefill=True)
        _, events = play(mixture(PRESETS[policy], max_tokens=max_tokens), scripted(length=30, agg=agg))
        assert isinstance(events[-1], RunEnded) and events[-1].reason in ("stop", "length")
