"""History keeps what was asked and answered, and what it took."""

import json

import pytest

pytest.importorskip("starlette")

from stairstream.server.history.keeping import make_past_run
from tests.server.finished import finish

pytestmark = pytest.mark.manners


def test_past_run_has_its_words_and_numbers() -> None:
    (finished,) = finish("mix")
    past = make_past_run(finished, now_s=100.0)
    assert (past.id, past.key_id, past.pipeline, past.reason) == (finished.run_id, None, "mix", "stop")
    assert past.started_at_s == 100.0 - past.total_s
    assert json.loads(past.conversation) == [{"role": "user", "content": "Why is the sky blue?"}]
    assert past.answer == "Blue light scatters most."
    assert past.used.completion_tokens == sum(one.usage.completion_tokens for one in finished.answer.summary.agents)


def test_run_that_broke_off_is_kept_with_what_there_was() -> None:
    (finished,) = finish("broken")
    past = make_past_run(finished, now_s=100.0)
    assert (past.reason, past.answer) == ("failed", "broken_1 broken_2")
