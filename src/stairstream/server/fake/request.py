"""The fields of a request that the fake server reads, and a model's answer to it."""

import re
from collections.abc import Sequence

import msgspec

from stairstream.backends.scripted import next_word
from stairstream.core.wording import Wording
from stairstream.server.fake.model import FakeModel

_COUNTING = re.compile(r"[\d, ]*\b(\d+),\s*")
_QUOTED = re.compile(r"<begun>\n(.*)\n</begun>", re.DOTALL)
_MORE_END = Wording().more.rsplit("\n", 1)[-1]
_JSON_CHARACTERS = 4


class Part(msgspec.Struct):
    """A piece of a message: text, or an image, of which only that it is there matters."""

    type: str
    text: str = ""


class FakeMessage(msgspec.Struct):
    """A message; `words` is its text, with one word for each image."""

    role: str
    content: str | list[Part] | None = None
    prefix: bool = False
    tool_calls: list[dict[str, object]] | None = None
    tool_call_id: str | None = None

    @property
    def words(self) -> str:
        """Its text, and a word for each image."""
        if isinstance(self.content, list):
            return "\n".join(part.text if part.type == "text" else f"[{part.type}]" for part in self.content)
        calls = msgspec.json.encode(self.tool_calls).decode() if self.tool_calls else ""
        return f"{self.content or ''}{calls}"


class StreamOptions(msgspec.Struct):
    """The parts of a stream besides words."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class ResponseFormat(msgspec.Struct):
    """Which form the answer is to have."""

    type: str


class FakeRequest(msgspec.Struct):
    """A chat request, as far as a fake model cares."""

    model: str
    messages: list[FakeMessage]
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: StreamOptions = msgspec.field(default_factory=StreamOptions)
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, object] = {}
    reasoning_effort: str | None = None
    tools: list[dict[str, object]] | None = None
    tool_choice: str | dict[str, object] = "auto"
    response_format: ResponseFormat | None = None


class Refused(Exception):
    """The request gets an error as its answer."""

    def __init__(self, status: int, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.retry_after_s = status, text, retry_after_s


def check_fields(model: FakeModel, request: FakeRequest, fields: dict[str, object]) -> None:
    """Refuse what the endpoint would."""
    options = fields.get("stream_options")
    names = [*fields, *(options if isinstance(options, dict) else ())]
    for name in model.rejects:
        if name in names:
            hint = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            raise Refused(400, f"Unsupported parameter: '{name}' is not supported with this model.{hint}")
    if not request.messages:
        raise Refused(400, "messages: there are none")
    if model.continues == "prefill" and request.continue_final_message:
        raise Refused(400, "continue_final_message: extra fields are not permitted")
    if request.reasoning_effort is not None and request.reasoning_effort not in model.efforts:
        known = ", ".join(model.efforts)
        raise Refused(400, f"reasoning_effort: '{request.reasoning_effort}' is not one of {known}.")
    if model.continues == "reject" and request.messages[-1].role == "assistant":
        raise Refused(400, "This model does not support assistant message prefill.")
    _check_results(request.messages)


def _check_results(messages: Sequence[FakeMessage]) -> None:
    """The result of a tool must answer a call that stands before it."""
    called: set[object] = set()
    for message in messages:
        called |= {call.get("id") for call in message.tool_calls or ()}
        if message.role == "tool" and message.tool_call_id not in called:
            raise Refused(400, "messages with role 'tool' must be a response to a preceding message with 'tool_calls'")


def calls_tools(model: FakeModel, request: FakeRequest) -> bool:
    """Whether the answer is a call: when there are tools, and their results have not just come."""
    may_call = bool(request.tools) and request.tool_choice != "none" and request.messages[-1].role != "tool"
    return may_call and bool(model.script.tool_calls)


def remaining_words(model: FakeModel, request: FakeRequest) -> Sequence[str]:
    """The words that the model would say: from where the messages leave off, or from the beginning."""
    last, words = request.messages[-1], _script_of(model, request)
    if last.role == "assistant":
        text = last.words
        counting = _COUNTING.fullmatch(text)
        if can_continue(model, request):
            number = int(counting[1]) if counting else 0
            return [f" {n}," for n in range(number + 1, 11)] if counting else words[next_word(words, text) :]
        return [f"{' ' if n > 1 else ''}{n}," for n in range(1, 11)] if counting else words
    if quoted := _QUOTED.search(last.words):
        rest = list(words[next_word(words, quoted[1]) :])
        return [rest[0].lstrip(), *rest[1:]] if rest else []
    if last.words.endswith(_MORE_END):
        return words[next_word(words, "".join(m.words for m in request.messages if m.role == "assistant")) :]
    return words


def _script_of(model: FakeModel, request: FakeRequest) -> Sequence[str]:
    if calls_tools(model, request):
        return model.script.before_calls
    if request.response_format is not None and request.response_format.type != "text":
        text = model.json_text
        return [text[start : start + _JSON_CHARACTERS] for start in range(0, len(text), _JSON_CHARACTERS)]
    return model.script.words


def thinks(model: FakeModel, request: FakeRequest) -> bool:
    """Whether the request leaves the model's thoughts on."""
    is_least = bool(model.efforts) and request.reasoning_effort == model.efforts[0]
    return request.chat_template_kwargs.get("enable_thinking") is not False and not is_least


def can_continue(model: FakeModel, request: FakeRequest) -> bool:
    """Whether the last message is one that the model continues."""
    last = request.messages[-1]
    can = {"flag": request.continue_final_message, "prefill": True, "prefix": last.prefix}
    return last.role == "assistant" and can.get(model.continues, False)
