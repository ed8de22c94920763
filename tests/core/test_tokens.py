"""Estimates of token counts, and which counts of an endpoint are believed."""

import pytest

from stairstream.core.tokens import believed_tokens, estimate_delta, estimate_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("w", 1),
        (" internationalization", 5),
        (" word", 1),
        (" two words", 2),
        ("w1 w2 w3 ", 3),
        ("\n\n", 1),
        ("x" * 42, 10),
    ],
)
def test_a_delta_has_a_token_for_each_of_its_words_at_least(text: str, tokens: int) -> None:
    assert estimate_delta(text) == tokens


def test_only_an_empty_text_has_no_tokens() -> None:
    assert (estimate_tokens(""), estimate_tokens("a"), estimate_tokens("x" * 420)) == (0, 1, 100)


@pytest.mark.parametrize(
    ("ours", "theirs", "num_characters", "least", "tokens"),
    [
        (12, 24, 100, 0, 24),  # two tokens in a delta
        (30, 24, 100, 0, 24),
        (12, None, 100, 0, 12),
        (12, None, 100, 24, 24),  # it kept to the limit, so there were as many
        (12, 0, 100, 0, 12),  # usage of a gateway that counts nothing
        (12, 500, 60, 0, 12),  # hidden thoughts
        (12, 2, 60, 0, 12),  # rounded to nothing: no token spells 30 characters
        (0, 0, 0, 0, 0),
    ],
)
def test_an_endpoints_count_is_believed_where_it_can_be_true(
    ours: int, theirs: int | None, num_characters: int, least: int, tokens: int
) -> None:
    assert believed_tokens(ours, theirs, num_characters, least) == tokens
