"""The routes of messages."""

from starlette.routing import Route

from stairstream.core.messages import estimate_size
from stairstream.core.tokens import estimate_tokens
from stairstream.server.access.gate import Caller
from stairstream.server.http.bodies import Shape, read_body
from stairstream.server.http.exchange import Exchange, Handler
from stairstream.server.http.operations import Operation
from stairstream.server.http.routes import route
from stairstream.server.messages import wire
from stairstream.server.messages.answer import make_message
from stairstream.server.messages.errors import make_error
from stairstream.server.messages.request import make_tools, read_conversation, read_message, refuse_what_is_not_kept
from stairstream.server.messages.stream import PING, MessageStream
from stairstream.server.runs.answering import RUN_ERRORS, RUN_PARAMETERS, Reply, Service, answer_by_run
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.choosing import choose_pipeline
from stairstream.server.wire.options import StairstreamOptions

_CREATE_MESSAGE = Operation(
    id="createMessage",
    summary="An answer in the shape of Anthropic's Messages, streamed or whole.",
    takes=wire.MessagesRequest,
    gives=wire.MessagesAnswer,
    streams=(wire.MessagesEvent, wire.MessagesError),
    fails=wire.MessagesError,
    parameters=RUN_PARAMETERS,
    errors=RUN_ERRORS,
    has_run=True,
)
_COUNT_TOKENS = Operation(
    id="countTokens",
    summary="The number of input tokens of a request; an estimate.",
    takes=wire.MessagesQuestion,
    gives=wire.TokenCount,
    fails=wire.MessagesError,
    errors=(400, 404, 413, 415),
)

_QUESTION = Shape(wire.MessagesQuestion)


def make_message_routes(service: Service) -> list[Route]:
    """The routes of messages, and of counting their tokens."""
    return [
        route(
            "POST", "/v1/messages", answer_by_run(service, read_reply, "messages"), _CREATE_MESSAGE, errors=make_error
        ),
        route("POST", "/v1/messages/count_tokens", count_message_tokens(service), _COUNT_TOKENS, errors=make_error),
    ]


async def read_reply(body: bytes, catalog: Catalog, caller: Caller) -> Reply:
    """Read a message's request; its answer has no date."""
    request = read_message(body, catalog)
    return Reply(
        request=request,
        stream=lambda run, created: MessageStream(request, run),
        whole=lambda run, created: make_message(request, run),
        keep_alive=PING,
        names={"images": "messages", "response_format": "output_config.format"},
    )


def count_message_tokens(service: Service) -> Handler:
    """Returns the handler. It counts the prompt of one agent, once; a run reads it once per agent and update."""

    async def count(exchange: Exchange) -> None:
        await service.gate.identify(exchange.headers)
        question, fields = _QUESTION.decode(await read_body(exchange))
        refuse_what_is_not_kept(fields)
        choose_pipeline(question.model, StairstreamOptions(), service.catalog)
        tokens = sum(map(estimate_size, read_conversation(question, service.catalog)))
        tokens += estimate_tokens((make_tools(question) or b"").decode())
        note = {"x-stairstream-note": "an estimate: the models' own tokenizers are not used"}
        await exchange.answer_json(wire.TokenCount(input_tokens=tokens), headers=note)

    return count
