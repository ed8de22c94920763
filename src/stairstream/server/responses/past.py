"""A past run as a response: its output, its input, and the whole."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from stairstream.config.pipelines import UsageScope
from stairstream.conversations.shapes import ChatMessage
from stairstream.conversations.turns import read_turns
from stairstream.core.events import Event, RunEnded, RunStarted
from stairstream.core.messages import Conversation, ImagePart, Message
from stairstream.core.metrics import summarize
from stairstream.server.responses import wire
from stairstream.server.responses.output import make_details, make_response_usage, make_spoken, make_status, message_id
from stairstream.server.storage.values import PastRun
from stairstream.server.wire.events import decode_event_json

_decode_turns = msgspec.json.Decoder(list[ChatMessage]).decode
_decode_result = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_repeated = msgspec.json.Decoder(wire.RepeatedFields).decode


def read_conversation(past: PastRun) -> Conversation:
    """The conversation of a past run, without messages that were for that run alone."""
    return read_turns(_decode_turns(past.conversation))[past.num_passing :]


def list_output(past: PastRun) -> list[wire.OutputItem]:
    """The items of the answer, without reasoning."""
    if past.tool_calls != "[]":
        return _make_output(past, _read_events(past))
    status: wire.ItemStatus = "completed" if past.reason == "stop" else "incomplete"
    return [wire.OutputMessage(id=message_id(past.id), status=status, content=[wire.OutputText(past.answer)])]


def make_past_response(past: PastRun) -> dict[str, Any]:
    """The response, as it was given; without reasoning."""
    events = _read_events(past)
    summary, ended = summarize(events), events[-1]
    assert isinstance(ended, RunEnded)
    repeated = _decode_repeated(past.repeated)
    status = make_status(ended.reason, is_background=repeated.background)
    response = wire.ResponseOut(
        id=f"resp_{past.id}",
        created_at=math.floor(past.started_at_s),
        status=status,
        model=past.model,
        output=_make_output(past, events),
        usage=make_response_usage(summary, _answering(events), _usage_scope(past)),
        error=_make_error(ended) if status == "failed" else None,
        incomplete_details=make_details(ended.reason) if status == "incomplete" else None,
        completed_at=math.floor(past.started_at_s + past.total_s) if status == "completed" else None,
        stairstream=None,
        **structs.asdict(repeated),
    )
    return {**structs.asdict(response), "stairstream": msgspec.Raw(past.result.encode())}


def list_input(run_id: str, conversation: Conversation) -> list[wire.ListedItem]:
    """The items of the input, oldest first."""
    return [structs.replace(item, id=f"in_{run_id}_{number}") for number, item in enumerate(_list_items(conversation))]


def _list_items(conversation: Iterable[Message]) -> Iterator[wire.ListedItem]:
    for message in conversation:
        if message.role == "tool":
            yield wire.ListedResult(id="", call_id=message.tool_call_id or "", output=message.content)
            continue
        if message.content or message.parts or not message.tool_calls:
            yield wire.ListedMessage(id="", role=message.role, content=_list_parts(message))
        for call in message.tool_calls:
            yield wire.OutputCall(id="", call_id=call.id, name=call.name, arguments=call.arguments, status="completed")


def _list_parts(message: Message) -> list[wire.ListedPart]:
    if message.role == "assistant":
        return [wire.InputOutputText(message.content)]
    if not message.parts:
        return [wire.InputText(message.content)]
    return [
        wire.InputImage(image_url=part.url) if isinstance(part, ImagePart) else wire.InputText(part.text)
        for part in message.parts
    ]


def _read_events(past: PastRun) -> list[Event]:
    return [decode_event_json(line)[0] for line in past.events.splitlines()]


def _answering(events: Sequence[Event]) -> str:
    started = events[0]
    assert isinstance(started, RunStarted)
    return started.answer


def _usage_scope(past: PastRun) -> UsageScope:
    """The agents whose usage the answer reported: where that is the answering one, all agents' stand beside it."""
    return "answer" if "usage" in _decode_result(past.result) else "all"


def _make_output(past: PastRun, events: Sequence[Event]) -> list[wire.OutputItem]:
    ended = events[-1]
    assert isinstance(ended, RunEnded)
    status: wire.ItemStatus = "completed" if ended.reason in ("stop", "tool_calls") else "incomplete"
    return make_spoken(past.id, events, _answering(events), past.answer, status)


def _make_error(ended: RunEnded) -> wire.ResponseError:
    return wire.ResponseError(code="server_error", message=ended.error or "the run failed", type="server_error")
