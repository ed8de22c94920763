"""The next bytes of an answer in flight, and what its end means: said, silent, lost, or unreadable.

An answer that has said its end is over, whatever its connection does then: for usage it is waited `END_S` at most.
"""

import asyncio

from stairstream.backends.bodies import PIECE_BYTES, BadBody
from stairstream.backends.call import Call
from stairstream.backends.endpoint import Endpoint
from stairstream.backends.http import NETWORK_ERRORS
from stairstream.backends.sorting import Piece
from stairstream.core.errors import MalformedAnswer, StreamCut

END_S = 1.0
HOLD_S = 0.05
"""So long the first words ever of an endpoint wait for a closing tag that shows that they were thoughts."""


async def receive(call: Call, endpoint: Endpoint) -> list[Piece]:
    """The pieces of what comes next; what is wrong with it is in the reader, or in `call.failure`.

    Whatever else goes wrong in reading is a MalformedAnswer: bytes of an endpoint end no more than their own answer.
    """
    reader, body = call.reader, call.received
    assert body is not None
    try:
        if reader.is_waiting and (due_s := _due_s(call, endpoint)) is not None:
            async with asyncio.timeout_at(due_s):
                data = await body.read()
        elif body.is_plain:
            data = await body.content.readany()
            if len(data) > PIECE_BYTES:
                data = body.put_back(data)
        else:
            data = await body.read()
    except BadBody as exc:
        raise MalformedAnswer(endpoint.describe(str(exc))) from exc
    except NETWORK_ERRORS as exc:
        if call.is_stopped:
            exc.__traceback__ = None  # the response holds it, and would by it hold this frame, which holds it too
            return []
        return _in_silence(call) if isinstance(exc, TimeoutError) else _end(call, endpoint, exc)
    return read_in(call, endpoint, data) if data else _end(call, endpoint, None)


def read_in(call: Call, endpoint: Endpoint, data: bytes) -> list[Piece]:
    """The pieces of these bytes; raises MalformedAnswer for what cannot be read."""
    reader = call.reader
    try:
        pieces = reader.feed(data)
    except Exception as exc:
        problem = f"the answer cannot be read ({type(exc).__name__}: {exc})"
        raise MalformedAnswer(endpoint.describe(problem)) from exc
    if reader.is_over:
        return pieces + reader.flush()
    if pieces:
        call.end_due_s = None
    return pieces


def _due_s(call: Call, endpoint: Endpoint) -> float | None:
    """Until when something is to come, where that matters."""
    reader = call.reader
    if reader.has_ended:
        if call.end_due_s is None:
            call.end_due_s = asyncio.get_running_loop().time() + min(END_S, call.gap_s / 2)
        return call.end_due_s
    if reader.is_whole:
        return asyncio.get_running_loop().time() + END_S
    if reader.text.is_withholding and endpoint.lone_tag is None:
        if call.hold_due_s is None:
            call.hold_due_s = asyncio.get_running_loop().time() + HOLD_S
        return call.hold_due_s
    return None


def _in_silence(call: Call) -> list[Piece]:
    """Nothing has come in time."""
    reader = call.reader
    if reader.has_ended:
        pieces = reader.finish()
        reader.is_done = True
        return pieces
    return reader.try_whole() if reader.is_whole else reader.let_go()


def _end(call: Call, endpoint: Endpoint, exc: BaseException | None) -> list[Piece]:
    """The stream is over, or its connection lost: see that it was a whole one."""
    reader = call.reader
    pieces = reader.finish()
    is_whole = reader.is_done and reader.broken is None
    if not (call.is_stopped or is_whole or reader.has_ended or reader.problem):
        if exc is not None:
            call.failure = StreamCut(endpoint.describe("the connection was lost in the middle of the answer"))
            call.failure.__cause__ = exc
        elif reader.broken is None:
            call.failure = StreamCut(endpoint.describe("the stream ended without saying that the answer has ended"))
    reader.is_done = True
    return pieces
