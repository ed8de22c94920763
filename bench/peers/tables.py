"""The tables of a run: a short one for the README, one for each scenario with ratios and goals for the benchmarks."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.results import Result, Row, Spread, row_of
from bench.peers.scenarios import SCENARIOS
from bench.peers.systems import ALONE, BALANCED, FREE, OURS, PEERS

GOALS: Mapping[str, tuple[float, float]] = {FREE: (10.0, 1.5), BALANCED: (8.0, 1.1)}
"""How many times sooner our first token, and our end, are to be than those of each peer."""

_ORDER = (ALONE, *OURS, *PEERS)


def short_table(results: Sequence[Result]) -> str:
    """One row for each system: all scenarios but that with prefill."""
    lines = [
        "| | first token | longest gap | total | first token, total: one proposer 3 times slower | one that hangs |",
        "|---|---|---|---|---|---|",
    ]
    for system in _ORDER:
        plain = row_of(results, "plain", system)
        if plain is not None:
            others = (row_of(results, scenario, system) for scenario in ("straggler", "hung"))
            cells = (*_times(plain, is_short=True), *(_both(row) for row in others))
            lines.append(f"| {_bold(system)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _both(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.failure or row.first is None or row.total is None:
        return row.failure or "-"
    return f"{row.first.median:.2f} s, {row.total.median:.1f} s"


def _bold(system: str) -> str:
    return f"**{system}**" if system in GOALS else system


def _times(row: Row, *, is_short: bool) -> tuple[str, str, str]:
    if row.failure:
        return row.failure, "-", "-"

    def show(value: Spread | None) -> str:
        return "-" if value is None else f"{value.median:.2f} s" if is_short else str(value)

    return show(row.first), "in one piece" if row.gap is None else show(row.gap), show(row.total)


def long_tables(results: Sequence[Result]) -> str:
    """A table for each scenario: medians with their range, and the peers' times over ours."""
    parts = []
    for scenario in SCENARIOS:
        own = [one for one in results if one.scenario == scenario.name]
        if not own:
            continue
        times = 1 + max(one.repetition for one in own)
        lines = [
            f"{scenario.title[0].upper()}{scenario.title[1:]}, {times} repetition{'s' if times > 1 else ''}"
            f"{' (one of what was given up)' if any(one.cut_s for one in own) else ''}:",
            "",
            "| | first token s | longest gap s | total s | words | over (8, 2, inf): first token, total "
            "| over `balanced` |",
            "|---|---|---|---|---|---|---|",
        ]
        for system in _ORDER:
            if (row := row_of(own, scenario.name, system)) is not None:
                over = [_over(row, row_of(own, scenario.name, our)) if system in PEERS else "" for our in GOALS]
                words = "-" if row.failure else str(row.num_words)
                lines.append(f"| {system} | {' | '.join((*_times(row, is_short=False), words, *over))} |")
        parts.append("\n".join(lines))
    return "\n\n".join((*parts, verdict(results)))


def _over(row: Row, ours: Row | None) -> str:
    found = _ratios(row, ours)
    return "-" if found is None else f"{found[0]:.1f}, {found[1]:.2f}"


def _ratios(row: Row, ours: Row | None) -> tuple[float, float] | None:
    """A peer's first token and total over ours; None where one of the two has not answered."""
    if ours is None or row.failure or ours.failure:
        return None
    assert row.first and row.total and ours.first and ours.total
    return row.first.median / ours.first.median, row.total.median / ours.total.median


def verdict(results: Sequence[Result]) -> str:
    """For each of ours the least ratios over all peers and scenarios, and whether they reach the goals."""
    lines = []
    for our, (first_goal, total_goal) in GOALS.items():
        found = []
        for scenario in SCENARIOS:
            ours = row_of(results, scenario.name, our)
            for peer in PEERS:
                row = row_of(results, scenario.name, peer)
                if row is not None and (ratios := _ratios(row, ours)) is not None:
                    found.append((f"{peer}, {scenario.title}", *ratios))
        if not found:
            continue
        first, total = min(found, key=lambda one: one[1]), min(found, key=lambda one: one[2])
        lines += [
            f"- {our}: first token at least {first[1]:.1f} times sooner (goal {first_goal:g},",
            f"  {_word(first[1] >= first_goal)}; least against {first[0]}),",
            f"  total at least {total[2]:.2f} times sooner (goal {total_goal:g}, {_word(total[2] >= total_goal)};",
            f"  least against {total[0]}).",
        ]
    return "\n".join(lines)


def _word(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def put_between(file: Path, name: str, text: str) -> None:
    """Replaces what stands between the comments `NAME: begin` and `NAME: end` of a page."""
    page = file.read_text()
    pattern = re.compile(rf"(<!-- {name}: begin[^>]*-->)\n.*?(<!-- {name}: end -->)", re.DOTALL)
    found, count = pattern.subn(lambda match: f"{match[1]}\n\n{text}\n\n{match[2]}", page)
    if count != 1:
        raise SystemExit(f"{file} has no comments <!-- {name}: begin --> and <!-- {name}: end -->")
    file.write_text(found)
