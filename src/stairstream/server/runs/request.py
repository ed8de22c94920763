"""A request that a protocol has read: the pipeline, the conversation, and how to answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from stairstream.answer import Answer
from stairstream.api import Pipeline
from stairstream.config.pipelines import UsageScope
from stairstream.core.messages import Conversation, split_begun
from stairstream.core.options import NO_OPTIONS, RequestOptions
from stairstream.server.access.gate import Reservation
from stairstream.server.errors import bad
from stairstream.server.http.bodies import Fields
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.choosing import choose_pipeline, read_options
from stairstream.server.runs.fusion import FUSION
from stairstream.server.runs.reservation import make_reservation
from stairstream.server.runs.settings import hand_over
from stairstream.server.runs.takes import check_tools, note_images
from stairstream.server.view import RunView
from stairstream.server.wire.options import Plugin, Show, StairstreamOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """A request for a run.

    `model` is the client's name for the pipeline, `policy_name` the policy of the answering agent, `usage` whose tokens
    are reported. `keep_s` is how long the run is kept after its client has left. `ignored` are parameters without
    effect, `notes` are sent in a header. The first `num_passing` messages of the conversation are for this request
    alone: a request that continues from its answer does not get them. `repeated` is a JSON object: fields that the
    protocol repeats with the answer.
    """

    pipeline: Pipeline
    model: str
    conversation: Conversation = field(repr=False)
    policy_name: str = ""
    options: RequestOptions = NO_OPTIONS
    is_stream: bool = False
    wants_usage: bool = False
    show: Show = "none"
    usage: UsageScope = "all"
    keep_s: float = 0.0
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    num_passing: int = 0
    repeated: bytes = field(default=b"{}", repr=False)
    _answers: dict[str, Answer] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_made_to_wait(self) -> bool:
        """Whether tools or a format force the policy `wait` on a pipeline that has another."""
        return self.options.waits and self.policy_name == "wait" != self.pipeline.settings.policy_name

    def reserve(self) -> Reservation:
        """The most that the run may use."""
        return make_reservation(self.pipeline, self.conversation, self.options)

    def unpaced(self) -> "RunRequest":
        """The same request, for an answer that its client sees as a whole; the two share the answer that is made."""
        return replace(self, options=replace(self.options, pace="raw"))

    def answer_of(self, run: RunView) -> Answer:
        """The answer of the run, which is over: made once, for the client and the observers."""
        if run.id not in self._answers:
            self._answers[run.id] = self.pipeline.make_answer(run, run.past)
        return self._answers[run.id]


_SAME_NAMES: Mapping[str, str] = MappingProxyType({})


def make_request(
    catalog: Catalog,
    *,
    model: str,
    conversation: Conversation,
    options: RequestOptions,
    given: StairstreamOptions | None,
    fields: Fields,
    plugins: Sequence[Plugin] = (),
    must_call: bool,
    is_stream: bool,
    wants_usage: bool = False,
    show: Show = "none",
    shows_events: bool = False,
    ignored: tuple[str, ...],
    notes: Sequence[str] = (),
    setting_names: Mapping[str, str] = _SAME_NAMES,
) -> RunRequest:
    """Make a request from the fields that a protocol has read from a body; ApiError names the parameter.

    `given` is the object `stairstream`; `show` is the default for its own `show`; `setting_names` maps names of
    settings to the protocol's own. Whether the models take the request's options is checked once, when the run is
    opened.
    """
    own = read_options(given, fields)
    if own.show == "events" and not shows_events:
        raise bad("stairstream.show", "events are shown by POST /v1/runs, and in chat completions")
    pipeline = choose_pipeline(model, own, catalog, plugins)
    conversation, asked = ask_instructions(conversation)
    check_tools(options, must_call=must_call)
    notes = (*notes, *asked, *note_images(pipeline, conversation))
    options, not_taken = hand_over(options, pipeline, setting_names)
    ignored = (*ignored, *not_taken, *(f"plugins.{plugin.id}" for plugin in plugins if plugin.id != FUSION))
    keep_s = _read_keep_s(own, catalog)
    policy_name, forced = _name_policy(pipeline, conversation, options)
    return RunRequest(
        pipeline=pipeline,
        model=model,
        conversation=conversation,
        policy_name=policy_name,
        options=replace(options, pace=own.pace) if own.pace else options,
        is_stream=is_stream,
        wants_usage=wants_usage,
        show=own.show or show,
        usage=own.usage or pipeline.settings.limits.usage,
        keep_s=keep_s,
        ignored=ignored,
        notes=(*notes, *forced),
    )


def ask_instructions(conversation: Conversation) -> tuple[Conversation, list[str]]:
    """A conversation of instructions alone with the last of them as the user's message, and a note of that."""
    if any(message.role != "system" for message in conversation) or not conversation:
        return conversation, []
    asked = replace(conversation[-1], role="user")
    return (*conversation[:-1], asked), ["there is no user message: the last of the instructions is asked as one"]


def _name_policy(pipeline: Pipeline, conversation: Conversation, options: RequestOptions) -> tuple[str, list[str]]:
    """The policy of the answering agent, and a note if the request forces it."""
    answering, name = pipeline.graph.agent(pipeline.graph.answer), pipeline.settings.policy_name
    if not answering.reads:
        return "none", []
    turns, _ = split_begun(conversation)
    if turns and turns[-1].role == "tool":
        return "none", ["the result of a tool: only the answering agent continues, proposers answer once per user turn"]
    if not options.waits or name == "wait":
        return name, []
    what = "tools" if options.tools is not None else "response_format"
    return "wait", [f"{what}: the answering agent waits until all agents that it reads have ended"]


def _read_keep_s(own: StairstreamOptions, catalog: Catalog) -> float:
    keep_s, most_s = own.keep_s or 0.0, catalog.limits.keep_s
    if keep_s > most_s:
        raise bad("stairstream.keep_s", f"{keep_s:g} is more than this server keeps a run ({most_s:g} seconds)")
    return keep_s
