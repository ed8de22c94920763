"""`stairstream ask --server`: a running server is asked, and its run taken up again wherever it continues."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stairstream.cli.answering import COMMAND_LINE, Pace, Telling, show_end, show_event
from stairstream.cli.as_json import to_json
from stairstream.cli.ask import make_conversation, read_question
from stairstream.cli.attaching import Attached
from stairstream.cli.remote import Remote, read_key, read_server
from stairstream.cli.telling import Told
from stairstream.cli.terminal import tell
from stairstream.config.policies import read_settings
from stairstream.core.errors import BackendError, RunFailed
from stairstream.core.events import BROKEN_OFF, RunEnded, RunStarted, Wrote
from stairstream.core.messages import as_dicts
from stairstream.core.metrics import summarize


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with the options of its command."""

    text: str
    pipeline: str | None
    policy: str | None
    settings: Sequence[str]
    system: str | None
    pace: Pace


def ask_server(
    question: Question,
    server: str,
    key: str | None,
    key_file: Path | None,
    *,
    as_json: bool = False,
    draws: bool = False,
    is_quiet: bool = False,
) -> None:
    """As `ask`, by the pipelines of a server. JSON is the run as its server describes it.

    A run that its connection was lost to is taken up again after the last word printed, also on another process that
    continues it. Raises RunFailed when the answer broke off, BackendErrors when the run can't be found again.
    """
    telling: Telling = "nothing" if as_json else "words" if is_quiet else "all"
    body = _make_body(question, "raw" if as_json else question.pace)
    address = read_server(server), read_key(key, key_file)

    async def main() -> tuple[list[Told], dict[str, Any] | None]:
        async with Remote(*address) as remote:
            body["model"] = question.pipeline or await remote.first_pipeline()
            return await _ask(remote, body, telling)

    told, described = asyncio.run(main())
    if as_json:
        print(to_json(described or _describe(told)), flush=True)
    if draws:
        _draw(told)
    last = told[-1][0]
    if isinstance(last, RunEnded) and last.reason in BROKEN_OFF:
        raise RunFailed(last.error or f"the run was {last.reason}")


def _make_body(question: Question, pace: Pace) -> dict[str, Any]:
    conversation = make_conversation(read_question(question.text), question.system)
    options: dict[str, Any] = {}
    if question.policy is not None:
        options["policy"] = question.policy
    if pace is not None:
        options["pace"] = pace
    numbers = json.loads(to_json(read_settings(question.settings, COMMAND_LINE.numbers)))
    return {"messages": as_dicts(conversation), "stairstream": {**options, **numbers}}


async def _ask(remote: Remote, body: dict[str, Any], telling: Telling) -> tuple[list[Told], dict[str, Any] | None]:
    """The events, and what the server says of the run in the end; a run that is left is ended."""
    attached = Attached(remote, None, tell, body)
    try:
        async with aclosing(attached.events()) as events:
            told = await _print(events, telling)
    except BackendError:  # it can't be found
        raise
    except BaseException:  # the person has left, or the output has: nobody waits for the run any more
        if attached.run_id is not None and not attached.is_over:
            await remote.cancel(attached.run_id)
        raise
    assert attached.run_id is not None, "a run that is over has begun"
    described = await remote.describe(attached.run_id)
    if telling == "all":
        result = (described or {}).get("stairstream", {})
        summary = summarize([event for event, _ in told])
        show_end(summary, result.get("notes", ()), result.get("policy", "unknown"), result.get("cost"))
    return told, described


async def _print(events: AsyncGenerator[Told, None], telling: Telling) -> list[Told]:
    told: list[Told] = []
    answering, reads, has_words = "", False, False
    async for event, text in events:
        told.append((event, text))
        if isinstance(event, RunStarted):
            answering, reads = event.answer, len(event.agents) > 1
        has_words = has_words or (isinstance(event, Wrote) and event.agent == answering)
        show_event(event, text, answering, telling, reads=reads)
    if telling != "nothing" and has_words:
        print(flush=True)
    return told


def _describe(told: Sequence[Told]) -> dict[str, Any]:
    """The answer of a run whose numbers its server has forgotten."""
    started, _ = told[0]
    assert isinstance(started, RunStarted)
    said = (text for event, text in told if isinstance(event, Wrote) and event.agent == started.answer)
    return {"id": started.run_id, "object": "run", "status": "over", "answer": "".join(said), "stairstream": None}


def _draw(told: Sequence[Told]) -> None:
    from rich.console import Console

    from stairstream.cli.watch import open_view

    console = Console(stderr=True, highlight=False)
    view = open_view(console, told[0])
    for event, text in told:
        view.add(event, text)
    console.print(*view.draw_whole(), sep="\n")
