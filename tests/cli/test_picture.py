"""The staircase in characters, column by column."""

from stairstream.cli.picture import Lane, draw_lane, draw_ruler, make_lanes, seconds_per_column
from stairstream.core.events import AgentEnded, StepStarted, Wrote
from stairstream.core.topologies import mixture


def wrote(at_s: float) -> Wrote:
    return Wrote(at_s=at_s, agent="a", start=0, end=1, num_tokens=1, is_estimate=False)


def lane(*events: Wrote | StepStarted | AgentEnded) -> Lane:
    made = Lane("a")
    for event in events:
        made.add(event)
    return made


def test_lane_shows_waiting_first_token_writing_update_and_pause() -> None:
    step = StepStarted(at_s=5.0, agent="a", step=1, limit=9)
    drawn = draw_lane(lane(wrote(2.0), wrote(3.5), wrote(4.5), step, wrote(7.0)), 7.5, 1.0, 10)
    assert drawn == "··◆━━▲╌━  "


def test_lane_stops_at_now_and_at_the_agents_end() -> None:
    ended = AgentEnded(at_s=1.5, agent="a", reason="stop")
    assert draw_lane(lane(wrote(0.5)), 2.5, 1.0, 5) == "◆╌╌  "
    assert draw_lane(lane(wrote(0.5), ended), 4.0, 1.0, 5) == "◆╌   "


def test_agent_that_failed_is_crossed_out() -> None:
    ended = AgentEnded(at_s=2.5, agent="a", reason="dropped", error="gone")
    assert draw_lane(lane(ended), 4.0, 1.0, 5) == "··✗  "


def test_words_closer_than_a_felt_pause_make_a_whole_line() -> None:
    assert draw_lane(lane(*(wrote(0.05 * n) for n in range(5))), 0.2, 0.01, 21) == "◆" + "━" * 20


def test_scale_grows_in_round_numbers_and_never_below_the_least() -> None:
    assert seconds_per_column(0.5, 50) == 0.01
    assert seconds_per_column(0.51, 50) == 0.02
    assert seconds_per_column(0.5, 50, at_least_s=0.2) == 0.2
    assert seconds_per_column(100_000, 50) == 2000


def test_ruler_names_every_tenth_column_that_has_room() -> None:
    assert draw_ruler(0.1, 30) == "|0        |1        |2 s"


def test_lanes_stand_from_the_answer_upwards() -> None:
    graph = mixture(proposers=["p", "p"], aggregator="a", layers=2)
    assert list(make_lanes(graph)) == ["a", "l2.p.1", "l2.p.2", "l1.p.1", "l1.p.2"]
