"""What a request of vLLM keeps, turn by turn."""

from hypothesis import given
from hypothesis import strategies as st

from stairstream.backends.vllm.turns import Held, Output

TURNS = st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1)))


def test_the_last_token_of_a_turn_is_given_back_first() -> None:
    held = Held()
    held.sent([1, 2, 3])
    held.sampled([4])
    held.sampled([5, 6])
    assert held.ids == [1, 2, 3, 4, 5]
    assert held.rest_of([1, 2, 3, 4, 5, 6]) == [6]
    assert held.rest_of([1, 2, 3, 4, 5, 6, 7, 8]) == [6, 7, 8]


def test_the_token_that_ends_an_answer_is_forgotten() -> None:
    held = Held()
    held.sent([1, 2])
    held.sampled([3])
    held.sampled(Output([9], "stop", 0).ids)
    assert held.rest_of([1, 2, 3, 7]) == [7]


def test_another_context_can_not_be_gone_on_with() -> None:
    held = Held()
    held.sent([1, 2, 3])
    held.sampled([4, 5])
    assert held.rest_of([1, 2, 9, 4, 5]) is None
    assert held.rest_of([1, 2, 3]) is None
    assert held.rest_of([1, 2, 3, 4]) is None  # nothing would be computed, and so nothing said


def test_the_end_token_is_no_word() -> None:
    assert Output([5, 2], "stop", 0).words == [5]
    assert Output([5, 6], "length", 0).words == [5, 6]


@given(TURNS)
def test_what_is_sent_adds_up_to_the_context(turns: list[tuple[list[int], list[int]]]) -> None:
    held, context, num_sent, num_written = Held(), list[int](), 0, 0
    for chunk, words in turns:
        rest = held.rest_of([*context, *chunk])
        assert rest is not None
        held.sent(rest)
        held.sampled(words)
        context += [*chunk, *words]
        num_sent, num_written = num_sent + len(rest), num_written + len(words)
        assert [*held.ids, words[-1]] == context
    # each word is computed once, as the next one's context or given back; the last of all is not computed
    assert num_sent == sum(len(chunk) for chunk, _ in turns) + max(0, len(turns) - 1)
