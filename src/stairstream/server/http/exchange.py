"""One HTTP request and its answer over ASGI: handlers read from it and write to it."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from stairstream.server.errors import ApiError, request_ids

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")

ErrorShape = Callable[[ApiError], object]
"""Returns an error in a protocol's shape, to be encoded as JSON."""

STRAIGHT = "stairstream.straight"
"""A key of the scope: the answer's way to its connection that no wrapper of the app sees."""

_encode = msgspec.json.Encoder().encode


class ClientLeft(Exception):
    """The client has disconnected."""


class Straight(Protocol):
    """Writes parts of a body whose status has been sent, without waiting."""

    @property
    def is_flowing(self) -> bool:
        """Whether a part can be written now: the body has begun, and the client has little unread."""

    def write(self, body: bytes) -> None:
        """Send a part of the body that is not its last; only while `is_flowing`."""


class Exchange:
    """A request, and its answer in parts. `status` is None until the answer has begun.

    `straight` is the way past all wrappers of the app, None where the server has none.
    `headers` are the request's, names in lower case.
    """

    __slots__ = ("_request_id", "headers", "receive", "scope", "send", "status", "straight")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.status: int | None = None
        self._request_id: str | None = None
        # taken out of the scope, to which its connection refers
        self.straight: Straight | None = scope.pop(STRAIGHT, None)
        given = scope.get("headers", ())
        self.headers: Mapping[str, str] = {name.decode("latin-1"): value.decode("latin-1") for name, value in given}

    @property
    def path_params(self) -> Mapping[str, str]:
        """The parameters of the route's path, by name."""
        found: Mapping[str, str] = self.scope.get("path_params", {})
        return found

    @property
    def request_id(self) -> str:
        """The id of an answer without a run; a run's answer has the run's."""
        if self._request_id is None:
            self._request_id = uuid.uuid4().hex
        return self._request_id

    def check_json(self) -> None:
        """Raise ApiError 415 if the request's content type is not JSON."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            message = f"the content type must be application/json, not {kind or 'left out'}"
            raise ApiError(status=415, message=message, code="wrong_content_type")

    async def read_body(self) -> bytes:
        """Read the whole body; raises ClientLeft if the client disconnects first, ApiError 415 if it is compressed."""
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            problem = f"the body is compressed with {encoding[:20]}; send it as it is, without content-encoding"
            raise ApiError(status=415, message=problem, code="wrong_content_encoding")
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            return body
        parts = [body]
        while message.get("more_body", False):
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            parts.append(message.get("body", b""))
        return b"".join(parts)

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the status and the headers."""
        assert self.status is None, "an answer begins once"
        self.status = status
        if all(name != b"x-request-id" for name, _ in headers):
            headers = [*headers, *_encode_headers(request_ids(self.request_id))]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, is_last: bool = False) -> None:
        """Send a part of the body."""
        await self.send({"type": "http.response.body", "body": body, "more_body": not is_last})

    async def answer(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Send a whole answer."""
        await self.begin(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.write(body, is_last=True)

    async def answer_json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer in JSON."""
        await self.answer(status, _encode(value), [JSON, *_encode_headers(headers or {})])

    async def answer_error(self, error: ApiError, shape: ErrorShape) -> None:
        """Send an error as the answer; a permanent one says so, or clients would send the request again."""
        never = {"x-should-retry": "false"} if error.is_permanent else {}
        error = replace(error, headers={**request_ids(self.request_id), **never, **error.headers})
        await self.answer_json(shape(error), error.status, error.headers)


def _encode_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), text.encode("latin-1")) for name, text in headers.items()]


Handler = Callable[[Exchange], Awaitable[None]]
