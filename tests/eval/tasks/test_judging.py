"""The verdict in a judge's reply, and the judge's prompt."""

import pytest

from stairstream.config.schema import parse_config
from stairstream.eval.tasks.evaluating import Pair
from stairstream.eval.tasks.judging import VERDICT_TOKENS, ask_verdict, make_judge, read_verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("[[A]]", "A"),
        ("[[B", "B"),  # the stop sequence "]]" is not part of the answer
        ("Both are fine. [[C]]", "tie"),
        ("First [[A]], but on reflection [[B]]", "B"),
        ("The answer with [A] is better.", "A"),
        ('The answer with "B" is better.', "B"),
        ("a", "A"),
        ("Answer B.", "B"),
        ("**Tie**", "tie"),
        ("I think that answer A is clearly better, as it is shorter.", "A"),
        ("Answer A is better. Answer B is better.", None),
        ("A good question deserves a good answer", None),
        ("A is for apple", None),
        ("", None),
    ],
)
def test_verdict_is_read_where_there_is_one(reply: str, verdict: str | None) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("first", "second", "score"),
    [("A", "B", 1), ("B", "A", 0), ("A", "A", 0.5), ("tie", "tie", 0.5), ("A", "tie", 0.75), ("A", None, None)],
)
def test_score_is_the_mean_over_both_orders(first: str, second: str | None, score: float | None) -> None:
    assert Pair(first=first, second=second).score == score  # type: ignore[arg-type]


def test_later_turn_is_judged_with_the_turns_before() -> None:
    _, asked = ask_verdict(["one?", "two?"], ["a1", "a2"], ["b1", "b2"])
    texts = ("one?", "a1", "b1", "two?", "a2", "b2")
    positions = [asked.content.index(f"\n{text}\n") for text in texts]
    assert positions == sorted(positions)


def test_judge_is_sober_and_short_unless_it_is_remote() -> None:
    config = parse_config(
        "models:\n"
        "  here: {backend: scripted, length: 3, temperature: 0.9, max_tokens: 400}\n"
        "  there: {backend: openai, base_url: 'http://127.0.0.1:1/v1', model: m, max_tokens: 400}\n"
        "pipelines: {one: {topology: single, model: here}}",
        "c.yaml",
    )
    (here,) = make_judge(config, "here").graph.agents
    (there,) = make_judge(config, "there").graph.agents
    assert (here.sampling.temperature, here.sampling.max_tokens, here.sampling.stop) == (0, VERDICT_TOKENS, ("]]",))
    assert there.sampling.max_tokens == 400
