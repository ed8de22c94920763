"""An answer printed as it comes: its words on standard output, everything else on standard error."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal

from stairstream.answer import Answer
from stairstream.api import Pipeline, open_pipeline
from stairstream.cli.terminal import ENDS, describe_gap, printable, show_loading, tell
from stairstream.config.choosing import choose_policy
from stairstream.config.policies import PolicyPaths
from stairstream.config.reading import Where
from stairstream.config.schema import Config
from stairstream.core.events import Event, LayoutChosen, Noted, Thought, Wrote
from stairstream.core.messages import Conversation
from stairstream.core.metrics import Summary
from stairstream.core.options import RequestOptions

Pace = Literal["even", "raw"] | None
Telling = Literal["all", "words", "nothing"]
"""The output: the answer and how it came about, the answer alone, or nothing."""

COMMAND_LINE = PolicyPaths(preset=Where(file="--policy"), numbers=Where(file="--set"))


def open_chosen(
    config: Config, pipeline: str | None, policy: str | None, settings: Sequence[str]
) -> AbstractAsyncContextManager[Pipeline]:
    """Opens the pipeline that the options of a command choose. Raises ConfigError, which names the option."""
    chosen = choose_policy(config, config.pipeline(pipeline), policy, settings, COMMAND_LINE)
    return open_pipeline(chosen, config=config, loading=show_loading)


async def answer(
    pipeline: Pipeline, conversation: Conversation, pace: Pace = None, telling: Telling = "all"
) -> tuple[Answer, list[Event]]:
    """Run, and print as the words come."""
    events: list[Event] = []
    async with pipeline.open_run(conversation, options=RequestOptions(pace=pace)) as run:
        reads = bool(run.graph.agent(run.graph.answer).reads)
        async for event in run.events():
            events.append(event)
            text = run.text(event) if isinstance(event, Wrote | Thought) else ""
            show_event(event, text, run.graph.answer, telling, reads=reads)
        whole = pipeline.make_answer(run, events)
    if telling != "nothing" and whole.text:
        print(flush=True)
    if telling == "all":
        show_end(whole.summary, whole.notes, whole.pipeline.policy_name, whole.cost)
    return whole, events


def show_event(event: Event, text: str, answering: str, telling: Telling, *, reads: bool) -> None:
    """Print an event with its words; the agent that answers may read others."""
    if isinstance(event, Wrote):
        if event.agent == answering and telling != "nothing":
            print(printable(text), end="", flush=True)
    elif telling == "all":
        match event:
            case LayoutChosen() if event.agent == answering and reads:
                tell(f"layout: {event.layout} ({event.why})")
            case Noted():
                tell(f"{event.note.kind}: {event.agent}: {event.note.text}")
            case _:
                pass


def show_end(summary: Summary, notes: Sequence[str], policy_name: str, cost: float | None) -> None:
    """Tell how an answer came about."""
    for line in notes:
        tell(line)
    for line in summary.degraded:
        tell(f"degraded: {line}")
    if summary.reason in ENDS:
        tell(f"ended: {summary.reason}: {ENDS[summary.reason]}")
    if summary.first_token_s is None:
        return
    updates = f"{summary.updates} update{'' if summary.updates == 1 else 's'}"
    tail = f", {updates}, policy {policy_name}" if len(summary.agents) > 1 else ""
    tail += "" if cost is None else f", cost {cost:.3g}"
    gap = describe_gap(summary)
    tell(f"first token {summary.first_token_s:.2f} s, total {summary.total_s:.2f} s, {gap}{tail}")
