"""One model at one URL: posts requests, and leaves out what the endpoint turns out not to take."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence

import aiohttp
import msgspec

from stairstream.backends.capabilities import Continues
from stairstream.backends.http import (
    CONNECT_TIMEOUT_S,
    NETWORK_ERRORS,
    Attempt,
    HttpPool,
    check_url,
    connection_error,
    hang_up,
    host_of,
    tidy,
)
from stairstream.backends.statuses import read_message, says_unknown_model, status_error
from stairstream.backends.wire import AnswerReader
from stairstream.core.context import Context
from stairstream.core.errors import ConfigError, MalformedAnswer, ServerFailed, UnknownModel
from stairstream.core.graph import Extras, Sampling
from stairstream.core.prompts import Prompt
from stairstream.core.session import Layout, Note

Fields = dict[str, object]
"""The body of a request, field by field."""


class Endpoint:
    """The address that requests go to. A subclass speaks its protocol; the key goes into a header and nowhere else.

    `path` is where answers are asked for and `models_path` the list of models, `kind` what an answer is called,
    `url_hint` what is often wrong about the URL. `sparable` are settings that a request can do without; the agent that
    asked for them is told.
    """

    path = ""
    models_path = "/models"
    kind = ""
    url_hint = ""
    sparable: Sequence[str] = ()

    def __init__(
        self, base_url: str, model: str, pool: HttpPool, api_key: str | None, secrets: Iterable[str] = ()
    ) -> None:
        """`secrets` are texts besides the key that no error may show."""
        self.base_url = check_url(base_url)
        self.model = model
        self._pool = pool
        self._key = (api_key or "").strip() or None
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"api_key of model {model!r} holds characters that no key has; check the environment")
        self._secrets = [secret for secret in (self._key, *secrets) if secret]
        self._left_out: set[str] = set()
        self._rejected: set[tuple[str, bytes]] = set()
        self.lone_tag: bool | None = None
        """Whether its thoughts end in a tag that was never opened; None before its first answer."""

    @property
    def where(self) -> str:
        """Host and model, as errors name them."""
        return f"{host_of(self.base_url)} ({self.model})"

    def body(
        self,
        prompt: Prompt,
        sampling: Sampling,
        max_tokens: int,
        continues: Continues,
        extras: Extras | None = None,
    ) -> Fields:
        """A streaming request for a prompt, its last message marked as one to be continued where that is asked for."""
        raise NotImplementedError

    def fit(self, prompt: Prompt, context: Context, layout: Layout) -> tuple[Prompt, str]:
        """The prompt of a context as the endpoint takes it, and the white space that was left out at its end."""
        return prompt, ""

    def make_reader(
        self, *, finds_thoughts: bool = False, withholds: bool = False, is_sure: bool = False
    ) -> AnswerReader:
        """A reader for one answer in its protocol."""
        return AnswerReader(finds_thoughts=finds_thoughts, withholds=withholds, is_sure=is_sure)

    async def connect(self) -> None:
        """See that a connection is ready in the pool; a failure shows at the first request."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                url = f"{self.base_url}{self.models_path}"
                async with self._pool.client().head(url, headers=self._headers(), allow_redirects=False):
                    return
        except NETWORK_ERRORS:
            return

    async def send(
        self, body: Fields, headers: Mapping[str, str] | None = None
    ) -> tuple[aiohttp.ClientResponse, list[Note]]:
        """Post a request and get a response of status 200, with notes of the settings that were left out.

        An optional field that the endpoint rejects is left out from then on, and the request sent again.
        """
        while True:
            attempt, shaped = Attempt(), self._shape(body)
            try:
                response = await self._post(shaped, headers or {}, attempt)
            except NETWORK_ERRORS as exc:
                if attempt.is_reused:
                    # the server had closed a kept connection; each one fails once, then a new one is made
                    continue
                raise connection_error(exc, self.where) from exc
            if 200 <= response.status < 300:
                return response, self._notes(body)
            message = await read_message(response)
            hang_up(response)
            if response.status not in (400, 422) or not self._can_adapt(body, shaped, message):
                raise status_error(response.status, tidy(message, self._secrets), self.where, response.headers)

    def describe(self, problem: str) -> str:
        """A problem with where it was; it may quote the endpoint."""
        return f"{self.where}: {tidy(problem, self._secrets)}"

    def takes(self, name: str) -> bool:
        """Whether the endpoint has not rejected an optional field so far."""
        return name not in self._left_out

    def _notes(self, body: Fields) -> list[Note]:
        """Notes on a request that was accepted."""
        left_out = [name for name in self.sparable if name in body and name in self._left_out]
        return [Note(kind="ignored", text=f"{name}: {self.where} rejects it") for name in left_out]

    def check(self, reader: AnswerReader) -> None:
        """Raise what an answer's bytes have shown to be wrong."""
        if reader.problem is not None:
            message = tidy(reader.problem.message, self._secrets)
            if reader.problem.status is not None:  # inside a 200, and meant as what it says
                raise status_error(reader.problem.status, message, self.where, {})
            kind = UnknownModel if says_unknown_model(message) else ServerFailed
            raise kind(f"{self.where}: the server sent an error{f': {message}' if message else ''}")
        if reader.broken is not None:
            message = tidy(reader.broken, self._secrets)
            hint = f"check base_url ({self.url_hint})"
            raise MalformedAnswer(f"{self.where}: the answer is not a {self.kind} ({message}); {hint}")

    async def _post(self, body: Fields, headers: Mapping[str, str], attempt: Attempt) -> aiohttp.ClientResponse:
        return await self._pool.client().post(
            f"{self.base_url}{self.path}",
            data=msgspec.json.encode(body),
            headers={**headers, **self._headers()},
            allow_redirects=False,
            trace_request_ctx=attempt,
        )

    def _headers(self) -> Mapping[str, str]:
        """Headers of every request, with the key."""
        return {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}

    def _shape(self, body: Fields) -> Fields:
        """The body as this endpoint was found to take it."""
        return {name: value for name, value in body.items() if name not in self._left_out}

    def _can_adapt(self, body: Fields, sent: Fields, message: str) -> bool:
        """Whether what was rejected would now be sent otherwise: another call may have learned the same meanwhile."""
        return self._shape(body) != sent or self._adapt(sent, message)

    def _adapt(self, sent: Fields, message: str) -> bool:
        """Leave out or rename the optional field that a rejection is about; whether there is one, so that every
        retry sends something else."""
        raise NotImplementedError

    def _leave_out(self, names: Iterable[str], sent: Fields, message: str) -> bool:
        """Leave out the first of these fields that a rejection names; whether there is one."""
        for name in names:
            if name in sent and _is_about(message, name):
                self._left_out.add(name)
                return True
        return False


def _is_about(message: str, name: str) -> bool:
    """Whether a rejection names a field; the role `user` is in many that are not about the field."""
    return name in message if name != "user" else bool(re.search(r"""['"`]user['"`](?! (?:message|role))""", message))
