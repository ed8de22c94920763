"""Answers of systems: what is paid for them, which are kept, and under which key."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from stairstream.config.build import open_backends
from stairstream.config.schema import parse_config
from stairstream.core.errors import RunFailed
from stairstream.core.messages import question
from stairstream.eval.kept import Kept
from stairstream.eval.tasks.answers import MOST_FAILURES, AnswerSource, Said
from stairstream.eval.tasks.purse import OutOfMoney, Purse
from stairstream.eval.tasks.systems import list_systems
from stairstream.sim.clock import run

PRICE = "price: {prompt: 0, completion: 1000}"
CONFIG = f"""
models:
  p: {{backend: scripted, length: 5, {PRICE}}}
  q: {{backend: scripted, length: 5, {PRICE}%s}}
  a: {{backend: scripted, length: 5, token_s: 1, {PRICE}%s}}
pipelines:
  mix: {{topology: mixture, proposers: [p, q], aggregator: a%s}}
"""
RESET = ", attempts: 1, fault: {kind: reset}"


async def ask_all(
    asked: Sequence[tuple[str, str]], file: Path, purse: Purse, faults: tuple[str, str, str], at_once: int = 1
) -> AnswerSource:
    """A source that has asked these systems these questions, one after the other."""
    config = parse_config(CONFIG % faults, "c.yaml")
    systems = list_systems(config, config.pipeline(None), (), None)
    async with open_backends(config, [system.graph for system in systems]) as backends:
        by_name = {system.name: system for system in systems}
        source = AnswerSource(config, by_name, backends, Kept(file, Said), purse, at_once)
        try:
            for name, text in asked:
                await source.ask(name, question(text))
        except OutOfMoney:
            pass
        return source


def ask(
    file: Path, *asked: tuple[str, str], purse: Purse | None = None, q: str = "", a: str = "", limits: str = ""
) -> AnswerSource:
    return run(ask_all(asked, file, purse or Purse(), (q, a, limits)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def test_run_that_fails_is_paid_too(file: Path) -> None:
    purse = Purse()
    source = ask(file, ("wait", "1?"), purse=purse, a=RESET)
    assert [one.system for one in source.failures] == ["wait"]
    assert purse.spent == pytest.approx(0.01)


def test_run_that_the_purse_stops_before_a_token_is_paid_and_ends_the_evaluation(file: Path) -> None:
    purse = Purse(0.004)
    source = ask(file, ("wait", "1?"), ("wait", "2?"), purse=purse)
    assert source.num_asked == 1 and not source.failures
    assert purse.is_empty and purse.spent == pytest.approx(0.004)


def test_system_that_always_fails_ends_it_though_others_do_not(file: Path) -> None:
    both = [(name, f"{number}?") for number in range(MOST_FAILURES) for name in ("single p", "wait")]
    with pytest.raises(RunFailed, match="3 answers of wait failed one after the other"):
        ask(file, *both, a=RESET)


def test_answer_that_was_cut_is_not_kept(file: Path) -> None:
    source = ask(file, ("balanced", "1?"), limits=", deadline_s: 3")
    assert (source.num_asked, source.num_passing, len(Kept(file, Said))) == (1, 1, 0)


def test_answer_without_an_agent_that_failed_is_not_kept(file: Path) -> None:
    source = ask(file, ("balanced", "1?"), q=RESET)
    assert (source.num_asked, source.num_passing, len(Kept(file, Said))) == (1, 1, 0)


def test_other_limits_buy_anew_and_the_purse_does_not(file: Path) -> None:
    one = ("balanced", "1?")
    assert ask(file, one).num_asked == 1
    assert ask(file, one, purse=Purse(5)).num_kept == 1
    assert ask(file, one, limits=", deadline_s: 30").num_asked == 1
    assert ask(file, one, limits=", max_cost: 3").num_asked == 1
    assert ask(file, one, limits=", deadline_s: 30").num_kept == 1


def test_answer_of_an_older_file_was_asked_alone_and_counts_unless_it_was_cut(file: Path) -> None:
    ask(file, ("balanced", "1?"))
    line = file.read_text()
    file.write_text(line.replace(',"at_once":1', ""))
    assert ask(file, ("balanced", "1?")).num_kept == 1
    file.write_text(line.replace('"ended":"stop"', '"ended":"deadline"'))
    assert ask(file, ("balanced", "1?")).num_asked == 1
