"""Counts of tokens that come from outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairstream.backends.counts import MAX_TOKENS, Counted, Counts, PromptDetails, RawUsage, believe
from stairstream.core.costs import Price, cost_of
from stairstream.core.session import Usage


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (RawUsage(prompt_tokens=9, completion_tokens=4), Counts(9, None, 4)),
        (RawUsage(prompt_tokens=-7, completion_tokens=-7), Counts(None, None, None)),
        (RawUsage(prompt_tokens=10**30, completion_tokens=MAX_TOKENS), Counts(None, None, MAX_TOKENS)),
        (RawUsage(prompt_tokens=9, prompt_tokens_details=PromptDetails(cached_tokens=5)), Counts(9, 5, None)),
        (RawUsage(prompt_tokens=9, prompt_cache_hit_tokens=5), Counts(9, 5, None)),
        (RawUsage(input_tokens=9, output_tokens=4), Counts(9, None, 4)),
        (RawUsage(input_tokens=9, input_tokens_details=PromptDetails(cached_tokens=5)), Counts(9, 5, None)),
        # Anthropic counts beside each other what was read from the cache, written to it, and neither
        (RawUsage(input_tokens=9, cache_read_input_tokens=90, cache_creation_input_tokens=1), Counts(100, 90, None)),
        (RawUsage(prompt_tokens=9, cache_read_input_tokens=90), Counts(99, 90, None)),
        (
            RawUsage(prompt_tokens=90, completion_tokens=4, total_tokens=124, cache_read_input_tokens=30),
            Counts(120, 30, 4),
        ),
        (
            RawUsage(prompt_tokens=90, completion_tokens=4, total_tokens=94, cache_read_input_tokens=30),
            Counts(90, 30, 4),
        ),
    ],
)
def test_counts_are_understood_in_every_style(usage: RawUsage, counts: Counts) -> None:
    assert believe(usage) == counts


numbers = st.none() | st.integers(-(10**40), 10**40) | st.integers(-5, 100)
usages = st.builds(
    RawUsage,
    prompt_tokens=numbers,
    completion_tokens=numbers,
    total_tokens=numbers,
    prompt_tokens_details=st.none() | st.builds(PromptDetails, cached_tokens=numbers),
    prompt_cache_hit_tokens=numbers,
    input_tokens=numbers,
    output_tokens=numbers,
    cache_read_input_tokens=numbers,
    cache_creation_input_tokens=numbers,
)


@given(usages)
def test_no_count_is_negative_or_endless(usage: RawUsage) -> None:
    for count in believe(usage):
        assert count is None or 0 <= count <= 4 * MAX_TOKENS


@given(usages, st.floats(0, 100), st.floats(0, 100), st.none() | st.floats(0, 100))
def test_no_answer_makes_a_budget_grow(usage: RawUsage, prompt: float, completion: float, cached: float | None) -> None:
    counted = Counted()
    counted.learn(usage)
    known = Usage(
        prompt_tokens=counted.prompt_tokens or 0,
        cached_tokens=counted.cached_tokens,
        completion_tokens=counted.completion_tokens or 0,
    )
    assert known.cached_tokens is None or 0 <= known.cached_tokens <= known.prompt_tokens
    assert cost_of(known, Price(prompt=prompt, completion=completion, cached=cached)) >= 0
