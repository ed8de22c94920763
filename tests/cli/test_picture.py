"""The staircase in characters, column by column."""

from stairstream.cli.picture import LEGEND, draw_lane, draw_ruler, draw_run, seconds_per_column
from stairstream.core.events import AgentEnded, StepStarted, Thought, Wrote
from stairstream.core.lanes import Lane, make_lanes
from stairstream.core.policy import Policy
from stairstream.core.topologies import mixture
from tests.engine.staircase import mixture as small_mixture
from tests.engine.staircase import play, scripted


def wrote(at_s: float) -> Wrote:
    return Wrote(at_s=at_s, agent="a", start=0, end=1, num_tokens=1, is_estimate=False)


def lane(*events: Wrote | StepStarted | AgentEnded | Thought) -> Lane:
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


def test_agent_that_was_stopped_early_ends_in_a_stroke_and_thoughts_are_marked() -> None:
    thought = Thought(at_s=0.5, agent="a", start=0, end=1, num_tokens=1)
    ended = AgentEnded(at_s=2.5, agent="a", reason="agreed")
    assert draw_lane(lane(thought, wrote(1.5), ended), 4.0, 1.0, 5) == "~◆┤  "


def test_whole_run_fits_its_width_and_explains_its_marks() -> None:
    graph = small_mixture(Policy(first_chunk=4, growth=2, quorum="all", patience_s=0))
    _, events = play(graph, scripted())
    lines = [line.plain for line in draw_run(graph, events, 60)]
    assert [line.split()[0] for line in lines[:4]] == ["agg", "p1", "p2", "p3"]
    assert max(map(len, lines[:5])) <= 60
    assert lines[-1] == LEGEND
    assert lines[0].count("▲") == 2 and lines[0].endswith("16")
