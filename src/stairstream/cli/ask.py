"""`stairstream ask`: the answer goes to standard output as it comes, everything else to standard error."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from stairstream.api import Answer, Pipeline, open_pipeline
from stairstream.cli.as_json import write_json
from stairstream.cli.standard import reading_input
from stairstream.cli.terminal import ENDS, describe_gap, printable, show_loading, tell
from stairstream.core.errors import RequestError, RunFailed
from stairstream.core.events import Event, LayoutChosen, Noted, Wrote
from stairstream.core.options import RequestOptions
from stairstream.engine.run import Run


def ask(
    question: str,
    *,
    config: Path | None,
    pipeline: str | None,
    policy: str | None,
    settings: Sequence[str],
    as_json: bool,
    draws: bool = False,
    pace: Literal["even", "raw"] | None = None,
) -> None:
    """Ask and print, and draw the run if asked to. JSON is printed at the end, so its answer is not paced.

    Raises RunFailed when the answer broke off; what came of it has been printed by then."""
    text = _read_question() if question == "-" else question
    if not text.strip():
        raise RequestError("the question is empty")

    async def main() -> tuple[Answer, list[Event]]:
        opening = open_pipeline(pipeline, config=config, policy=policy, settings=settings, loading=show_loading)
        async with opening as opened:
            return await _ask(opened, text.strip(), "raw" if as_json else pace, is_quiet=as_json)

    answer, events = asyncio.run(main())
    if as_json:
        print(write_json(answer), flush=True)
    if draws:
        from rich.console import Console

        from stairstream.cli.picture import draw_run

        console = Console(stderr=True, highlight=False)
        console.print(*draw_run(answer.graph, events, console.width), sep="\n")
    if answer.summary.reason == "failed":
        raise RunFailed(answer.summary.error or "the run failed")


def _read_question() -> str:
    with reading_input():
        return sys.stdin.read()


async def _ask(
    pipeline: Pipeline, question: str, pace: Literal["even", "raw"] | None, *, is_quiet: bool
) -> tuple[Answer, list[Event]]:
    events: list[Event] = []
    async with pipeline.open_run(question, options=RequestOptions(pace=pace)) as run:
        async for event in run.events():
            events.append(event)
            if not is_quiet:
                _show(run, event)
        answer = pipeline.make_answer(run, events)
    if not is_quiet:
        if answer.text:
            print(flush=True)
        _show_end(answer)
    return answer, events


def _show(run: Run, event: Event) -> None:
    match event:
        case Wrote() if event.agent == run.graph.answer:
            print(printable(run.text(event)), end="", flush=True)
        case LayoutChosen() if event.agent == run.graph.answer and run.graph.agent(event.agent).reads:
            tell(f"layout: {event.layout} ({event.why})")
        case Noted():
            tell(f"{event.note.kind}: {event.agent}: {event.note.text}")
        case _:
            pass


def _show_end(answer: Answer) -> None:
    summary = answer.summary
    for line in answer.notes:
        tell(line)
    for line in summary.degraded:
        tell(f"degraded: {line}")
    if summary.reason in ENDS:
        tell(f"ended: {summary.reason}: {ENDS[summary.reason]}")
    if summary.first_token_s is None:
        return
    updates = f"{summary.updates} update{'' if summary.updates == 1 else 's'}"
    tail = f", {updates}, policy {answer.pipeline.policy_name}" if len(summary.agents) > 1 else ""
    tail += "" if answer.cost is None else f", cost {answer.cost:.3g}"
    gap = describe_gap(summary)
    tell(f"first token {summary.first_token_s:.2f} s, total {summary.total_s:.2f} s, {gap}{tail}")
