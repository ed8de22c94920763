"""POST /v1/chat/completions: who asks what; then the answer as it comes, or whole."""

from contextlib import AbstractAsyncContextManager

from stairstream.core.events import RunEnded
from stairstream.server.answer import make_completion
from stairstream.server.asking import Asking
from stairstream.server.errors import error_of_run
from stairstream.server.exchange import JSON, Exchange, Handler
from stairstream.server.gate import Caller, Grant
from stairstream.server.headers import make_headers
from stairstream.server.leaving import leave_with_client
from stairstream.server.request import read_chat
from stairstream.server.service import Service
from stairstream.server.sse_out import SseOut
from stairstream.server.stream import ChunkStream, encode


def complete_chats(service: Service) -> Handler:
    """The handler."""

    async def complete(exchange: Exchange) -> None:
        caller = service.gate.identify(exchange.headers)
        asking = read_chat(await exchange.read_body(), service)
        admission = service.gate.admit(caller, asking.wanted)
        give = _stream if asking.is_stream else _give_whole
        await give(service, exchange, asking, caller, admission)

    return complete


async def _stream(
    service: Service,
    exchange: Exchange,
    asking: Asking,
    caller: Caller,
    admission: AbstractAsyncContextManager[Grant],
) -> None:
    """The answer as it comes. Until something is there to be sent, a failure is still a status."""
    async with (
        leave_with_client(exchange.receive) as start_beside,
        service.runs.open(asking, caller, admission) as run,
    ):
        out = SseOut(exchange, make_headers(asking, run))
        start_beside(out.tend())
        stream = ChunkStream(asking, run, int(service.wall_clock()))
        async for batch in run.batches():
            chunks = stream.tell(batch)
            if stream.error is not None and not out.is_begun:
                raise stream.error
            if chunks:
                await out.write(chunks, is_last=stream.is_over)


async def _give_whole(
    service: Service,
    exchange: Exchange,
    asking: Asking,
    caller: Caller,
    admission: AbstractAsyncContextManager[Grant],
) -> None:
    """The answer once it is complete; one that broke off is an error."""
    async with leave_with_client(exchange.receive), service.runs.open(asking, caller, admission) as run:
        await run.wait_ended()
        end = run.past[-1]
        assert isinstance(end, RunEnded)
        if end.reason in ("failed", "cancelled"):
            raise error_of_run(run, end)
        completion = make_completion(asking, run, int(service.wall_clock()))
        await exchange.answer(200, encode(completion), [JSON, *make_headers(asking, run)])
