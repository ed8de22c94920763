"""docs/policies.md: its numbers are the presets', its tables those of the benchmark."""

import re
from pathlib import Path

import pytest

from bench import silence, sweep
from bench.adaptive import PAGE, make_tables, renew
from stairstream.config.policies import NUMBERS
from stairstream.core.adaptive import HEAD_TOKENS, Goals
from stairstream.core.decisions import SILENCE_FACTOR, SILENCE_S
from stairstream.core.outlook import SLOWEST_PREFILL_TOKENS_PER_S
from stairstream.core.policy import MOST_EVEN, PRESETS
from stairstream.core.worth import SHARE

TEXT = Path(PAGE).read_text()


def test_presets_are_as_the_page_says() -> None:
    head = re.findall(r"`(\w+)`", next(line for line in TEXT.splitlines() if line.startswith("| number")))
    assert head == list(PRESETS)
    for number, cells in re.findall(r"^\| `(\w+)` \|[^|]+\|(.*)\|$", TEXT, re.MULTILINE)[: len(NUMBERS)]:
        shown = [getattr(preset, number) for preset in PRESETS.values()]
        assert [cell.strip() for cell in cells.split("|")] == [
            one if isinstance(one, str) else f"{one:g}" for one in shown
        ]


def test_goals_are_as_the_page_says() -> None:
    assert f"(`reading_tokens_per_s`, {Goals().reading_tokens_per_s:g})" in TEXT
    assert f"`max_prompt_tokens_factor` ({Goals().max_prompt_tokens_factor:g})" in TEXT
    assert f"({HEAD_TOKENS} tokens)" in TEXT


@pytest.mark.slow
def test_tables_are_current() -> None:
    assert renew(TEXT, make_tables()) == TEXT, "run: python -m bench.adaptive --write"


@pytest.mark.slow
def test_table_of_silence_is_current() -> None:
    table = silence.make_table()
    assert renew(TEXT, table, silence.MARK) == TEXT, "run: python -m bench.silence --write"


def test_share_of_the_rule_is_as_the_page_says() -> None:
    assert f"ends at most {SHARE:.0%}".replace("%", " %") in TEXT
    assert f"({SLOWEST_PREFILL_TOKENS_PER_S} tokens/s)" in TEXT
    assert f"From the {MOST_EVEN}th on chunks at least double" in TEXT


@pytest.mark.slow
def test_quick_cells_of_the_sweep_keep_the_rule() -> None:
    found = sweep.sweep_all(sweep.QUICK, processes=2)
    assert [str(one) for one in found if one.stage != sweep.STAGES[0] and list(one.breaks())] == []
    first_runs = {kind for one in found if one.stage == sweep.STAGES[0] for kind in one.breaks()}
    assert first_runs <= {"wasted prompt tokens"}


def test_silence_is_as_the_page_says() -> None:
    assert f"{SILENCE_S:g} s + patience_s + {SILENCE_FACTOR:g} * (time of the first one to the first mark)" in TEXT
