"""Answers to HTTP/1.0: a body of unknown length ends with the connection, as such a client knows no chunks."""

import sys

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from stairstream.server.http.exchange import AsgiApp, AsgiMessage, Receive, Scope, Send


def close_delimited(app: AsgiApp, cycle: RequestResponseCycle) -> AsgiApp:
    """Returns the app for one request, with uvicorn told that the connection ends the body."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_unbounded = False

        async def send_unchunked(message: AsgiMessage) -> None:
            nonlocal is_unbounded
            if message["type"] == "http.response.start":
                is_unbounded = all(name.lower() != b"content-length" for name, _ in message["headers"])
                if is_unbounded:
                    cycle.chunked_encoding, cycle.keep_alive = False, False
                    cycle.expected_content_length = sys.maxsize
            elif is_unbounded and not message.get("more_body", False):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_unchunked)

    return answer
