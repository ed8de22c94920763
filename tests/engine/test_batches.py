"""The staircase on tokens that come several at once, some without text: exact in virtual time."""

import math

from stairstream.backends.scripted import Manner, Script, numbered_words
from stairstream.core.events import StepStarted
from stairstream.core.metrics import summarize
from stairstream.core.policy import Policy
from tests.engine.staircase import mixture, play, scripted

FOURS = Policy(first_chunk=4, growth=2, quorum="all", patience_s=0, lead=math.inf)
LOCKSTEP = Policy(first_chunk=4, growth=1, quorum="all", patience_s=0, lead=0)


def sending(name: str, manner: Manner, length: int = 16) -> Script:
    return Script(words=numbered_words(name, length), first_token_s=0.5, token_s=0.25, manner=manner)


def mixed(manner: Manner, own: Manner, policy: Policy = FOURS) -> list[StepStarted]:
    """The steps of an aggregator whose three proposers send in one manner, and it in another."""
    p1, p2, p3 = (sending(name, manner) for name in ("p1", "p2", "p3"))
    run, events = play(mixture(policy), scripted(p1=p1, p2=p2, p3=p3, agg=sending("agg", own)))
    assert run.answer == "".join(numbered_words("agg", 16))
    return [event for event in events if isinstance(event, StepStarted) and event.agent == "agg"]


def test_first_chunk_is_there_with_the_batch_that_reaches_it_and_is_read_whole() -> None:
    first, *_ = mixed(Manner(batch=3), Manner())
    # the sixth token comes with the second batch, at 0.5 + 5 * 0.25
    assert first.at_s == 1.75
    assert [reading.end for reading in first.readings] == [len("".join(numbered_words("p1", 6)))] * 3


def test_tokens_without_text_count_towards_the_first_chunk() -> None:
    first, *_ = mixed(Manner(silent_every=3), Manner())
    # tokens 1, 2, a silent third, and the fourth with a word: four tokens, three words
    assert first.at_s == 0.5 + 3 * 0.25
    assert [reading.end for reading in first.readings] == [len("".join(numbered_words("p1", 3)))] * 3


def test_first_word_comes_with_the_first_batch_of_the_answer() -> None:
    _, events = play(mixture(FOURS), scripted(agg=sending("agg", Manner(batch=5))))
    # the proposers' fourth token at 1.25, then the call and its fifth token
    assert summarize(events).first_token_s == 1.25 + 0.5 + 4 * 0.25


def test_a_limit_is_kept_within_a_batch() -> None:
    steps = mixed(Manner(), Manner(batch=5), LOCKSTEP)
    assert [step.limit for step in steps[:2]] == [4, 4]
