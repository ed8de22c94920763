"""The rule on calls that gain nothing (docs/policies.md), by hand: upstream ends at 4 s, a call is silent for 2 s, and
the answer is written in 2 s, so that under `wait` it ends at 8 s. 5 % of that are 0.4 s."""

import math
from dataclasses import replace

import pytest

from stairstream.core.decisions import Own, Upstream
from stairstream.core.worth import INSTANT_S, Outlook, weigh

OUTLOOK = Outlook(ends_s=(4.0,), call_s=2.0, call_most_s=2.0, last_call_s=2.0, writing_s=2.0)
OWN = Own(max_tokens=100)
OPEN = (Upstream(num_written=10, num_read=0, has_ended=False, end_is_read=False),)
ENDED = (Upstream(num_written=10, num_read=5, has_ended=True, end_is_read=False),)


@pytest.mark.parametrize(("now", "held_until"), [(2.3, None), (2.5, 4.4), (3.9, 4.4)])
def test_a_first_call_is_made_if_it_speaks_soon_after_the_end(now: float, held_until: float | None) -> None:
    assert weigh(OPEN, OWN, now, OUTLOOK).held_until == held_until


def test_a_first_call_is_made_only_if_its_first_token_is_earlier_by_a_share() -> None:
    """Upstream ends at once after it, so that the end would be no later."""
    quick = replace(OUTLOOK, call_s=0.1, last_call_s=0.1)
    assert weigh(OPEN, OWN, 3.7, quick).held_until is None
    assert weigh(OPEN, OWN, 3.9, quick).held_until == pytest.approx(4.0 + 0.05 * 6.1)


@pytest.mark.parametrize(("now", "held_until"), [(2.0, None), (2.1, 4.4)])
def test_an_update_is_made_if_it_speaks_before_the_end(now: float, held_until: float | None) -> None:
    assert weigh(OPEN, replace(OWN, num_written=3), now, OUTLOOK).held_until == held_until


def test_a_step_is_held_once() -> None:
    held = replace(OWN, held_until=3.0)
    assert weigh(OPEN, held, 3.5, OUTLOOK) == held


@pytest.mark.parametrize("unknown", [replace(OUTLOOK, ends_s=(math.inf,)), replace(OUTLOOK, call_s=math.inf)])
def test_what_is_not_known_holds_no_call(unknown: Outlook) -> None:
    assert weigh(OPEN, OWN, 3.9, unknown) == OWN


@pytest.mark.parametrize(("asked_s", "spared_until"), [(1.9, None), (2.1, 4.4), (2.4, 4.4 + INSTANT_S), (2.5, None)])
def test_a_silent_call_is_let_speak_if_it_soon_will(asked_s: float, spared_until: float | None) -> None:
    """One that should have spoken by now is not, as nothing is known of it any more; one that should at the very end
    has a moment more."""
    own = replace(OWN, is_writing=True, steps=1, asked_s=asked_s)
    assert weigh(ENDED, own, 4.0, OUTLOOK).spared_until == pytest.approx(spared_until, abs=1e-9)


def test_a_call_that_has_spoken_is_not_spared() -> None:
    own = replace(OWN, is_writing=True, steps=1, asked_s=2.1, num_written=1)
    assert weigh(ENDED, own, 4.0, OUTLOOK) == own
