"""A question a line in, its times a line out: what the program that measures and a peer's process say to each other.

It imports only the standard library, as nothing else is sure to be there in the environment of a peer.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, kw_only=True)
class Task:
    """A question, and the models that answer it."""

    question: str
    proposers: Sequence[str]
    aggregator: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """When each piece of the answer came, in seconds from the question; `error` is what went wrong, if it did.

    `num_words` are those of the whole answer, so that a short one is not taken for a fast one.
    """

    at_s: Sequence[float] = field(default_factory=list)
    total_s: float = 0.0
    num_words: int = 0
    error: str | None = None


Say = Callable[[str], None]
"""Takes a piece of the answer, when it comes."""
Ask = Callable[[Task, Say], Awaitable[None]]


async def time_answer(ask: Ask, task: Task) -> Answer:
    """Asks once."""
    start_s = time.perf_counter()
    at_s: list[float] = []
    pieces: list[str] = []

    def say(text: str) -> None:
        if text:
            at_s.append(time.perf_counter() - start_s)
            pieces.append(text)

    error = None
    try:
        await ask(task, say)
    except Exception as exc:  # whatever a foreign program raises is its answer
        error = f"{type(exc).__name__}: {exc}"
    total_s = time.perf_counter() - start_s
    return Answer(at_s=at_s, total_s=total_s, num_words=len("".join(pieces).split()), error=error)


def serve(ask: Ask) -> None:
    """Answers until standard input ends."""
    with asyncio.Runner() as runner:  # one loop, so that a client keeps its connections
        for line in sys.stdin:
            answer = runner.run(time_answer(ask, Task(**json.loads(line))))
            print(json.dumps(asdict(answer)), flush=True)
