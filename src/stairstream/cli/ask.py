"""`stairstream ask`: the answer goes to standard output as it comes, everything else to standard error."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from stairstream.answer import Answer
from stairstream.cli.answering import Pace, Telling, answer, open_chosen
from stairstream.cli.as_json import write_json
from stairstream.cli.standard import reading_input
from stairstream.cli.terminal import tell
from stairstream.config.schema import load_config
from stairstream.core.errors import RequestError, RunFailed
from stairstream.core.events import Event
from stairstream.core.messages import Conversation, Message, question

TOY_NOTE = "the built-in model has 135 million parameters: it shows when words come, not how good a mixture is"


def ask(
    text: str,
    *,
    config: Path | None,
    pipeline: str | None,
    policy: str | None,
    settings: Sequence[str],
    as_json: bool = False,
    draws: bool = False,
    is_quiet: bool = False,
    system: str | None = None,
    pace: Pace = None,
) -> None:
    """Ask and print, and draw the run if asked to. JSON is printed at the end, so its answer is not paced.

    `is_quiet` prints the answer alone. Raises RunFailed when the answer broke off; what came of it has been printed by
    then.
    """
    text = read_question(text)
    chosen = load_config(config)
    telling: Telling = "nothing" if as_json else "words" if is_quiet else "all"
    if chosen.is_built_in and telling == "all":
        tell(TOY_NOTE)

    async def main() -> tuple[Answer, list[Event]]:
        async with open_chosen(chosen, pipeline, policy, settings) as opened:
            return await answer(opened, make_conversation(text, system), "raw" if as_json else pace, telling)

    given, events = asyncio.run(main())
    if as_json:
        print(write_json(given), flush=True)
    if draws:
        from rich.console import Console

        from stairstream.cli.picture import draw_run

        console = Console(stderr=True, highlight=False)
        console.print(*draw_run(given.graph, events, console.width), sep="\n")
    if given.summary.reason == "failed":
        raise RunFailed(given.summary.error or "the run failed")


def make_conversation(text: str, system: str | None) -> Conversation:
    """A question, after the system message if there is one."""
    return (*((Message(role="system", content=system),) if system else ()), *question(text))


def read_question(text: str) -> str:
    """The question, of standard input if it is `-`. Raises RequestError for an empty one."""
    if text == "-":
        with reading_input():
            text = sys.stdin.read()
    if not (text := text.strip()):
        raise RequestError("the question is empty")
    return text
