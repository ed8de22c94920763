"""The cost model that follows from calls whose times are given."""

import pytest

from stairstream.plan.calling import Call
from stairstream.plan.fitting import Found, fit

PREFILL_S = 0.004


def call(prompt: int, token_s: float, *, start_s: float = 0.0, first_s: float | None = None, tokens: int = 48) -> Call:
    begin_s = start_s + (prompt * PREFILL_S if first_s is None else first_s)
    return Call(
        start_s=start_s,
        at_s=[begin_s + number * token_s for number in range(tokens)],
        num_tokens=[1] * tokens,
        prompt_tokens=prompt,
        cached_tokens=0,
    )


def test_the_speed_under_load_is_that_while_all_of_them_write() -> None:
    """Before that some are slowed by the prompts of others, which other runs need not have."""
    early = Call(
        start_s=0.0,
        at_s=[0.25 * number for number in range(5)] + [1.0 + 0.025 * number for number in range(1, 44)],
        num_tokens=[1] * 48,
        prompt_tokens=80,
        cached_tokens=0,
    )
    late = call(80, 0.025, first_s=1.0)
    costs = fit(Found(short=[call(80, 0.01)], together={2: [[early, late]]}), 0.0)
    assert costs.tokens_per_s[2] == pytest.approx(40)


def test_a_longer_context_takes_more_time_for_each_token() -> None:
    found = Found(short=[call(76, 0.01 + 100e-5)], fresh=[call(476, 0.01 + 500e-5)])
    costs = fit(found, 0.0)
    assert costs.context_token_s == pytest.approx(1e-5)
    assert costs.tokens_per_s[1] == pytest.approx(100)
    assert costs.token_s(1, saturates=True, context=300) == pytest.approx(0.013)


def test_a_pass_is_what_lies_between_two_tokens_beside_a_prompt() -> None:
    answer = call(80, 0.26, first_s=0.3)
    prompt = call(500, 0.01, start_s=0.4, first_s=2.0 * 65 / 64)
    costs = fit(Found(short=[call(80, 0.01)], fresh=[call(500, 0.01)], beside=[(answer, prompt)]), 0.0)
    assert costs.pass_tokens == pytest.approx(0.26 / PREFILL_S - 1)
    assert costs.shared_pass_s == pytest.approx(0)


def test_a_pass_with_answers_takes_longer_where_a_prompt_beside_one_does() -> None:
    answer = call(80, 0.26, first_s=0.3)
    prompt = call(500, 0.01, start_s=0.4, first_s=2.5)
    costs = fit(Found(short=[call(80, 0.01)], fresh=[call(500, 0.01)], beside=[(answer, prompt)]), 0.0)
    assert costs.pass_tokens == pytest.approx(0.8 * 0.26 / PREFILL_S)
    assert costs.pass_s(1) == pytest.approx(0.26)
    assert costs.prompts_share(1) == pytest.approx(0.8)
    assert costs.prompts_share(0) == 1


def test_an_answer_that_has_ended_says_nothing_of_a_prompt_beside_it() -> None:
    answer, prompt = call(80, 0.26, first_s=0.3, tokens=4), call(500, 0.01, start_s=0.4, first_s=2.5)
    costs = fit(Found(short=[call(80, 0.01)], fresh=[call(500, 0.01)], beside=[(answer, prompt)]), 0.0)
    assert costs.pass_tokens == pytest.approx(0.26 / PREFILL_S - 1)
