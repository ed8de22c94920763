"""Signs of seams: each is found where it is, and not where it is not."""

import pytest

from stairstream.eval.seams.counting import (
    breaks_sentence,
    breaks_word,
    end_of_word,
    leaks,
    names_in,
    restarts,
    share_repeated,
)

KNOWN = frozenset("the sky is blue because of light started a it's don't and".split())


def split(marked: str) -> tuple[str, int]:
    """A text and the position of its mark."""
    return marked.replace("|", ""), marked.index("|")


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("The sky is blue because of light.| The sky is blue because it is.", True),
        ("The sky is blue because of light| and The sky is blue because", True),
        ("The sky is blue because of light.| It scatters. The sky", False),
        ("The sky is|The sky is blue because", True),
        ("The sky| The sky is", False),  # too short to be a beginning
        ("|Sure, the sky", False),
        ("The sky is blue because| Sure, the sky", True),
        ("The sky is blue because| Here are three reasons:", True),
        ("The sky is blue because| here is where light", False),
        ("The sky is blue because|You're right, I have", True),
    ],
)
def test_restart_is_the_beginning_again(marked: str, expected: bool) -> None:
    assert restarts(*split(marked)) == expected


def test_repeated_runs_count_once_they_come_again() -> None:
    run = "one two three four five six seven eight"
    assert share_repeated(run) == 0
    assert share_repeated(f"{run}. {run}.") == pytest.approx(1 / 9)
    assert share_repeated("too short") == 0


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("it star|ted", False),
        ("it sta|tred", True),
        ("the|The sky", True),
        ("the| sky", False),
        ("the |sky", False),
        ("it begi| The", True),
        ("the sky| sky is", True),
        ("in 19|87", False),
        ("the 1920|s", False),
        ("the light|2. Sky", True),
        ("it'|s blue", False),
        ("don|'t", False),
        ("the sky.|", False),
    ],
)
def test_broken_word_is_none_or_is_said_twice(marked: str, expected: bool) -> None:
    assert breaks_word(*split(marked), KNOWN) == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("because of| The sky", True),
        ("because of| the light", False),
        ("because of| Newton said", False),
        ("because of light.| The sky", False),
        ('he said "so."| The sky', False),
        ("because of|\n\nthe light", True),
        ("because of| I", False),
        ("Reasons:\n- |Light", False),
        ("Reasons:\n1.| Light", False),
        ("because of li|ght", False),
        ("because of|The light", True),
        ("because of light|2. Sky", True),
        ("Done|", False),
    ],
)
def test_broken_sentence_is_left_open_when_the_next_begins(marked: str, expected: bool) -> None:
    assert breaks_sentence(*split(marked), frozenset({"Newton"})) == expected


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("the s|ky is", "the sky| is"),
        ("the sky| is", "the sky| is"),
        ("the |sky", "the |sky"),
        ("it'|s blue", "it's| blue"),
        ("the 'sk|y' is", "the 'sky|' is"),
        ("in 19|87.", "in 1987|."),
        ("the sk|y", "the sky|"),
        ("|the sky", "|the sky"),
    ],
)
def test_position_inside_a_word_moves_to_its_end(marked: str, expected: str) -> None:
    text, position = split(marked)
    assert (text, end_of_word(text, position)) == split(expected)


def test_leak_is_a_run_of_the_instructions() -> None:
    wording = "You have begun your answer; the user has already read this much of it"
    assert leaks("The sky. You have begun your answer, the user", wording)
    assert not leaks("You have begun your answer.", wording)
    assert leaks("The sky.\n</reference>", wording) and not leaks("for reference", wording)


def test_names_are_capitals_inside_sentences() -> None:
    assert names_in("The law of Isaac Newton is old. It says: Things fall.") == {"Isaac", "Newton"}
