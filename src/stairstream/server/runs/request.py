"""A request that has been read, in whatever protocol: what is to be run, and how its answer is to be given."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from stairstream.api import Answer, Pipeline
from stairstream.core.asked import NOTHING_ASKED, Asked
from stairstream.core.messages import Conversation, split_begun
from stairstream.engine.run import Run
from stairstream.server.access.gate import Reservation
from stairstream.server.errors import bad
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.reservation import most_used
from stairstream.server.runs.takes import check_choice, list_blind
from stairstream.server.wire.options import Show, StairstreamOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a client wants.

    `model` is what it called the pipeline, `policy_name` what the answering agent reads by. `keep_s` is how long the
    run lives on after its client has left. `ignored` are parameters that nobody here knows, `notes` what is to be said
    before the first byte. `num_passing` messages at the front of the conversation are for this request alone: who goes
    on from its answer does not get them.
    """

    pipeline: Pipeline
    model: str
    conversation: Conversation = field(repr=False)
    policy_name: str = ""
    asked: Asked = NOTHING_ASKED
    is_stream: bool = False
    wants_usage: bool = False
    show: Show = "none"
    keep_s: float = 0.0
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    num_passing: int = 0
    _answers: dict[str, Answer] = field(default_factory=dict, init=False, repr=False, compare=False)

    def reserve(self) -> Reservation:
        """The most that the run may use."""
        return most_used(self.pipeline, self.conversation, self.asked)

    def answer_of(self, run: Run) -> Answer:
        """What came of the run, which is over: made once, for the client and for whoever counts."""
        if run.id not in self._answers:
            self._answers[run.id] = self.pipeline.make_answer(run, run.past)
        return self._answers[run.id]


def make_request(
    catalog: Catalog,
    *,
    pipeline: Pipeline,
    model: str,
    conversation: Conversation,
    asked: Asked,
    options: StairstreamOptions,
    is_stream: bool,
    ignored: tuple[str, ...],
    notes: list[str],
    wants_usage: bool = False,
) -> RunRequest:
    """What has been read. That the models take it is checked once, where its run is opened."""
    check_choice(asked)
    notes += list_blind(pipeline, conversation)
    return RunRequest(
        pipeline=pipeline,
        model=model,
        conversation=conversation,
        policy_name=_name_policy(pipeline, conversation, asked, notes),
        asked=asked,
        is_stream=is_stream,
        wants_usage=wants_usage,
        show=options.show or "none",
        keep_s=_read_keep_s(options, catalog),
        ignored=ignored,
        notes=tuple(notes),
    )


def refuse_choice(must_call: bool, tools: Sequence[object] | None) -> None:
    """ApiError where some tool must be called and none is there."""
    if must_call and not tools:
        raise bad("tool_choice", "asks for a call, and there are no tools")


def _name_policy(pipeline: Pipeline, conversation: Conversation, asked: Asked, notes: list[str]) -> str:
    """What the answering agent reads by; what forces it is noted."""
    answering = pipeline.graph.agent(pipeline.graph.answer)
    if not answering.reads:
        return "none"
    turns, _ = split_begun(conversation)
    if turns and turns[-1].role == "tool":
        notes.append("the result of a tool: only the answering agent goes on, proposers answer once per user turn")
        return "none"
    if asked.waits and pipeline.settings.policy_name != "wait":
        what = "tools" if asked.tools is not None else "response_format"
        notes.append(f"{what}: the answering agent waits until all that it reads is complete")
    return "wait" if asked.waits else pipeline.settings.policy_name


def _read_keep_s(options: StairstreamOptions, catalog: Catalog) -> float:
    keep_s, most_s = options.keep_s or 0.0, catalog.limits.keep_s
    if keep_s > most_s:
        raise bad("stairstream.keep_s", f"{keep_s:g} is more than this server keeps a run ({most_s:g} seconds)")
    return keep_s
