"""Counting tokens of a text whose tokenizer we do not have. Every count made here is an estimate."""

CHARACTERS_PER_TOKEN = 4.2
"""English prose under today's vocabularies of 32k to 200k tokens."""

_LONGEST_TOKEN = 20


def estimate_tokens(text: str) -> int:
    """Tokens in a text of any length, at least 1 unless it is empty."""
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN)) if text else 0


def estimate_delta(text: str) -> int:
    """Tokens in one delta of a stream: some servers send one token at a time, many several.

    A token seldom holds parts of two words, so a delta of several words has at least as many tokens.
    """
    num_words = len(text.split())
    return 1 if num_words < 2 and len(text) <= _LONGEST_TOKEN else max(num_words, estimate_tokens(text))


def believed_tokens(ours: int, theirs: int | None, num_characters: int, least: int = 0) -> int:
    """Tokens of a text that we count as `ours` and its endpoint as `theirs` (None: it does not say).

    The endpoint's count holds where it can be true of this text: no token spells more than 20 characters, and one
    without any is rare; else it is one that counts hidden thoughts, is 0 for all, or is of something else. `least` is
    how many it must be because the endpoint ended at that limit.
    """
    if theirs is not None and num_characters <= theirs * _LONGEST_TOKEN and theirs <= max(ours, num_characters):
        return theirs
    return max(ours, least)
