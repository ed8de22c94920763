"""POST /v1/messages/count_tokens: how long a request is, without running it."""

from stairstream.core.messages import estimate_size
from stairstream.core.tokens import estimate_tokens
from stairstream.server.http.bodies import Shape
from stairstream.server.http.exchange import Exchange, Handler
from stairstream.server.messages.request import make_tools, read_conversation
from stairstream.server.messages.wire import MessagesQuestion, TokenCount
from stairstream.server.runs.answering import Service
from stairstream.server.runs.choosing import choose_pipeline
from stairstream.server.wire.options import StairstreamOptions

_QUESTION = Shape(MessagesQuestion)


def count_message_tokens(service: Service) -> Handler:
    """The handler. What one agent is asked is counted, once; a run reads it once per agent and update."""

    async def count(exchange: Exchange) -> None:
        service.gate.identify(exchange.headers)
        question, _ = _QUESTION.decode(await exchange.read_body())
        choose_pipeline(question.model, StairstreamOptions(), service.catalog)
        tokens = sum(map(estimate_size, read_conversation(question, service.catalog)))
        tokens += estimate_tokens((make_tools(question) or b"").decode())
        note = {"x-stairstream-note": "an estimate: the models' own tokenizers are not asked"}
        await exchange.answer_json(TokenCount(input_tokens=tokens), headers=note)

    return count
