"""`stairstream chat`: questions line by line, each answered with all that was said before."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stairstream.api import Pipeline
from stairstream.cli.answering import Pace, answer, open_chosen
from stairstream.cli.ask import TOY_NOTE, make_conversation
from stairstream.cli.standard import reading_input
from stairstream.cli.terminal import tell
from stairstream.config.schema import load_config
from stairstream.core.events import BROKEN_OFF
from stairstream.core.messages import Conversation, Message

PROMPT = "> "
_PIECE_BYTES = 65_536
HELP = "an empty line or end of input (Ctrl-D) leaves; /new forgets what was said"


def chat(
    *,
    config: Path | None,
    pipeline: str | None,
    policy: str | None,
    settings: Sequence[str],
    system: str | None = None,
    pace: Pace = None,
) -> None:
    """Ask and answer until the input ends. A turn that failed is said, and forgotten."""
    chosen = load_config(config)
    tell(HELP)
    if chosen.is_built_in:
        tell(TOY_NOTE)

    async def main() -> None:
        async with open_chosen(chosen, pipeline, policy, settings) as opened:
            await _chat(opened, system, pace)

    asyncio.run(main())


async def _chat(pipeline: Pipeline, system: str | None, pace: Pace) -> None:
    said: Conversation = ()
    lines = _Lines()
    while line := await lines.next():
        if line == "/new":
            said = ()
            continue
        asked = (*said, *make_conversation(line, None if said else system))
        given, _ = await answer(pipeline, asked, pace)
        if given.summary.reason in BROKEN_OFF:
            tell(f"failed: {given.summary.error}; ask again")
        elif given.text:
            said = (*asked, Message(role="assistant", content=given.text))


class _Lines:
    """Lines of standard input, waited for by the event loop: a thread that reads can't be interrupted by Ctrl-C."""

    def __init__(self) -> None:
        self._kept = b""

    async def next(self) -> str:
        """The next line without blanks around it; empty at the end of the input."""
        if sys.stdin.isatty():
            print(PROMPT, end="", file=sys.stderr, flush=True)
        while b"\n" not in self._kept and (data := await _read_some()):
            self._kept += data
        line, _, self._kept = self._kept.partition(b"\n")
        with reading_input():
            return line.decode(sys.stdin.encoding or "utf-8").strip()


async def _read_some() -> bytes:
    """Bytes of standard input, once there are some; none at its end."""
    file = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    try:
        loop.add_reader(file, _tell, ready)
    except PermissionError:  # a file on a disk, which never has to be waited for
        ready.set_result(None)
    try:
        await ready
    finally:
        loop.remove_reader(file)
    with reading_input():
        return os.read(file, _PIECE_BYTES)


def _tell(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
