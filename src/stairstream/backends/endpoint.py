"""One model at one URL: posts requests, and leaves out what the endpoint turns out not to take."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import get_args

import aiohttp
import msgspec

from stairstream.backends.capabilities import Continues, is_hosted
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
from stairstream.core.errors import ConfigError, MalformedAnswer, ServerFailed, UnknownModel
from stairstream.core.graph import Extras, Sampling
from stairstream.core.messages import as_dicts, move_images
from stairstream.core.prompts import Prompt
from stairstream.core.session import Note, Setting

Fields = dict[str, object]
"""The body of a request, field by field."""

_SPARABLE = ("seed", "temperature", "top_p", "parallel_tool_calls", "user")
"""Settings that a request can do without; the agent that asked for them is told."""

_MOST_REJECTED = 256
"""Settings of clients that are remembered as rejected, each with its value: another value may be taken."""

EFFORTS = ("minimal", "low")
"""Values of `reasoning_effort`, least first: not every reasoning model knows the first."""


class Endpoint:
    """The address that requests go to. The key goes into the Authorization header and nowhere else.

    `cache_salt` goes into every request: only those with the same one share a prefix cache.
    """

    def __init__(
        self, base_url: str, model: str, pool: HttpPool, api_key: str | None, cache_salt: str | None = None
    ) -> None:
        self.base_url = check_url(base_url)
        self.model = model
        self._pool = pool
        self._key = (api_key or "").strip() or None
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(f"api_key of model {model!r} holds characters that no key has; check the environment")
        self._stream_options: Fields = {"include_usage": True}
        if not is_hosted(self.base_url, model):
            self._stream_options["continuous_usage_stats"] = True
        # never left out: who asks for it must not share a cache with others
        self._fixed: Fields = {"cache_salt": cache_salt} if cache_salt else {}
        self._secrets = [secret for secret in (self._key, cache_salt) if secret]
        self._left_out: set[str] = set()
        self._rejected: set[tuple[str, bytes]] = set()
        self.lone_tag: bool | None = None
        """Whether its thoughts end in a tag that was never opened; None before its first answer."""
        self._effort = EFFORTS[0]
        self._limit_field = "max_tokens"

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
        messages = as_dicts(move_images(prompt.messages))
        body: Fields = {"model": self.model, "messages": messages, "stream": True, "max_tokens": max_tokens}
        body |= self._fixed
        if prompt.continues_last and continues == "flag":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if prompt.continues_last and continues == "prefix":
            messages[-1]["prefix"] = True
        settings = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
        settings["repetition_penalty"] = sampling.repetition_penalty
        body |= {name: value for name, value in settings.items() if value is not None}
        return body | _extras(extras) if extras else body

    async def connect(self) -> None:
        """See that a connection is ready in the pool; a failure shows at the first request."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                url = f"{self.base_url}/models"
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
        left_out = [name for name in _SPARABLE if name in body and name in self._left_out]
        left_out += [name for name, value in _client_settings(body) if (name, value) in self._rejected]
        notes = [Note(kind="ignored", text=f"{name}: {self.where} rejects it") for name in left_out]
        for name, how in (("chat_template_kwargs", "off"), ("reasoning_effort", f"down to {self._effort}")):
            if name not in body or isinstance(body[name], msgspec.Raw):  # the client's own effort
                continue
            if self.takes(name):
                notes.append(Note(kind="reasoning", text=f"thinking is switched {how} when the answer is continued"))
            else:
                text = f"{self.where} rejects {name}: the model thinks anew whenever its answer is continued"
                notes.append(Note(kind="reasoning", text=text))
        return notes

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
            hint = "check base_url (it often ends in /v1)"
            raise MalformedAnswer(f"{self.where}: the answer is not a chat completion ({message}); {hint}")

    async def _post(self, body: Fields, headers: Mapping[str, str], attempt: Attempt) -> aiohttp.ClientResponse:
        return await self._pool.client().post(
            f"{self.base_url}/chat/completions",
            data=msgspec.json.encode(body),
            headers={**headers, **self._headers()},
            allow_redirects=False,
            trace_request_ctx=attempt,
        )

    def _headers(self) -> Mapping[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        return {**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers

    def _shape(self, body: Fields) -> Fields:
        """The body as this endpoint was found to take it."""
        shaped = {name: value for name, value in body.items() if name not in self._left_out}
        for name, value in _client_settings(shaped):
            if (name, value) in self._rejected:
                del shaped[name]
        shaped[self._limit_field] = shaped.pop("max_tokens")
        if isinstance(shaped.get("reasoning_effort"), str):  # ours
            shaped["reasoning_effort"] = self._effort
        if shaped["stream"] and "stream_options" not in self._left_out:
            shaped["stream_options"] = self._stream_options
        return shaped

    def _can_adapt(self, body: Fields, sent: Fields, message: str) -> bool:
        """Whether what was rejected would now be sent otherwise: another call may have learned the same meanwhile."""
        return self._shape(body) != sent or self._adapt(sent, message)

    def _adapt(self, sent: Fields, message: str) -> bool:
        """Leave out or rename the optional field that a rejection is about; whether there is one, so that every
        retry sends something else."""
        if "continuous_usage_stats" in message and "continuous_usage_stats" in self._stream_options:
            self._stream_options = {"include_usage": True}
            return True
        if "max_completion_tokens" in message and self._limit_field == "max_tokens":
            self._limit_field = "max_completion_tokens"
            return True
        for name, value in _client_settings(sent):
            if name in message:
                if len(self._rejected) >= _MOST_REJECTED:
                    self._rejected.clear()
                self._rejected.add((name, value))
                return True
        if isinstance(sent.get("reasoning_effort"), str) and self._effort in message and self._effort != EFFORTS[-1]:
            self._effort = EFFORTS[-1]
            return True
        if "chat_template_kwargs" in sent and "enable_thinking" in message:
            self._left_out.add("chat_template_kwargs")
            return True
        for name in ("stream_options", *_SPARABLE, "chat_template_kwargs", "reasoning_effort"):
            if name in sent and _is_about(message, name):
                self._left_out.add(name)
                return True
        return False


def _extras(extras: Extras) -> Fields:
    """The fields that a request adds; what is JSON already goes as it is."""
    fields: Fields = {}
    for name in ("response_format", "tools", "tool_choice"):
        if (value := getattr(extras, name)) is not None:
            fields[name] = msgspec.Raw(value)
    if extras.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = extras.parallel_tool_calls
    if extras.user is not None:
        fields["user"] = extras.user
    return fields | {name: msgspec.Raw(value) for name, value in extras.settings}


def _client_settings(body: Fields) -> Iterator[tuple[str, bytes]]:
    """The settings that come from a request, with their values: JSON as it came, which our own are not."""
    for name in get_args(Setting):
        if isinstance(value := body.get(name), msgspec.Raw):
            yield name, bytes(value)


def _is_about(message: str, name: str) -> bool:
    """Whether a rejection names a field; the role `user` is in many that are not about the field."""
    return name in message if name != "user" else bool(re.search(r"""['"`]user['"`](?! (?:message|role))""", message))
