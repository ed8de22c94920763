"""How the next token is chosen."""

import pytest

torch = pytest.importorskip("torch")

from stairstream.backends.torch.sampling import Sampler  # noqa: E402
from stairstream.core.graph import Sampling  # noqa: E402


def sampler(sampling: Sampling) -> Sampler:
    return Sampler(sampling, 1, None, None)


def test_repetition_penalty_moves_on_to_the_next_best() -> None:
    logits = torch.tensor([1.0, 3.0, 2.5, -1.0])
    plain, penalized = sampler(Sampling(temperature=0)), sampler(Sampling(temperature=0, repetition_penalty=2.0))
    assert [plain.choose(logits) for _ in range(3)] == [1, 1, 1]
    assert [penalized.choose(logits) for _ in range(3)] == [1, 2, 1]
    assert logits.tolist() == [1.0, 3.0, 2.5, -1.0]


def test_words_that_were_never_said_are_not_penalized() -> None:
    logits = torch.tensor([1.0, 3.0, 2.5, -1.0])
    one = sampler(Sampling(temperature=0, repetition_penalty=2.0))
    assert [one.choose(logits) for _ in range(2)] == [1, 2]
    one.recall([1])
    assert one.choose(logits) == 2
    one.recall([])
    assert one.choose(logits) == 1


def test_equal_seeds_give_equal_tokens() -> None:
    logits = torch.linspace(0, 1, 50)
    one, other = sampler(Sampling(temperature=1.0)), sampler(Sampling(temperature=1.0))
    assert [one.choose(logits) for _ in range(20)] == [other.choose(logits) for _ in range(20)]
