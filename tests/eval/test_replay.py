"""Replays: recorded proposals and a real backend, at set times."""

from pathlib import Path

import pytest

from stairstream.backends.scripted import Fault, Script, ScriptedBackend, numbered_words
from stairstream.core.errors import RunFailed
from stairstream.core.graph import Sampling
from stairstream.core.policy import PRESETS, Policy
from stairstream.eval.kept import Kept
from stairstream.eval.replay import Replay, Replays, Spoken, replay, split_pieces
from stairstream.eval.retention.timetable import Speed
from stairstream.sim.clock import run

SPEED = Speed(first_token_s=0.5, token_s=0.25)
POLICY = Policy(first_chunk=4, growth=1, quorum="all", patience_s=0)


def make_replay(policy: Policy = POLICY, layout: None = None) -> Replay:
    text = " ".join(f"w{number}" for number in range(12))
    return Replay(
        asked="Why?",
        proposals={"p1": text, "p2": text},
        policy=policy,
        layout=layout,
        sampling=Sampling(max_tokens=40),
        speed=SPEED,
        speeds={"p1": SPEED, "p2": SPEED},
    )


def make_backend() -> ScriptedBackend:
    """A backend that computes everything at once."""
    return ScriptedBackend(Script(words=numbered_words("a", 20)))


def test_pieces_are_the_text_and_small() -> None:
    text = "Extraordinarily  good:\n\n- a list, of things\n"
    pieces = split_pieces(text)
    assert "".join(pieces) == text
    assert max(len(piece.strip()) for piece in pieces) <= 6
    assert pieces[:3] == ("Extrao", "rdinar", "ily")


def test_words_come_at_their_times_however_fast_they_are_computed() -> None:
    spoken = run(replay(make_backend(), make_replay()))
    # the fourth of a proposer's words comes at 0.5 + 3 * 0.25, then the first call's 0.5
    assert spoken.first_token_s == 1.75
    assert spoken.text == " ".join(f"a{number}" for number in range(1, 21))
    assert spoken.layout == "grouped" and spoken.ended == "stop"


def test_updates_are_positions_in_the_answer() -> None:
    spoken = run(replay(make_backend(), make_replay()))
    assert len(spoken.updates) == 2
    assert all(spoken.text[position] == " " for position in spoken.updates)
    assert run(replay(make_backend(), make_replay(PRESETS["wait"]))).updates == ()


def test_slower_proposer_holds_up_a_reader_that_waits_for_all() -> None:
    slow = Replay(
        asked="Why?",
        proposals=make_replay().proposals,
        policy=POLICY,
        layout=None,
        sampling=Sampling(max_tokens=40),
        speed=SPEED,
        speeds={"p1": SPEED, "p2": Speed(first_token_s=0.5, token_s=1)},
    )
    assert run(replay(make_backend(), slow)).first_token_s == 0.5 + 3 + 0.5


def test_answer_is_kept_for_the_same_model_only(tmp_path: Path) -> None:
    async def ask(identity: str) -> int:
        backend = make_backend()
        await Replays(backend, Kept(tmp_path / "r.jsonl", Spoken), identity).run(make_replay())
        return len(backend.calls)

    assert run(ask("one")) > 0
    assert run(ask("one")) == 0
    assert run(ask("other")) > 0


def test_failing_aggregator_is_no_answer() -> None:
    failing = ScriptedBackend(Script(words=numbered_words("a", 5), fault=Fault(kind="reset")))
    with pytest.raises(RunFailed, match="closes the connection"):
        run(replay(failing, make_replay()))
