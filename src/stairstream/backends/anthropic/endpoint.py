"""A model at a URL that speaks the Messages API: the body of a request, and what of it is not taken."""

import re
from collections.abc import Mapping
from dataclasses import replace

from stairstream.backends.anthropic.options import forces_tool, make_options, make_sampling
from stairstream.backends.anthropic.reader import MessageReader
from stairstream.backends.anthropic.turns import make_turns
from stairstream.backends.capabilities import Continues, is_hosted
from stairstream.backends.endpoint import Endpoint, Fields
from stairstream.backends.http import HttpPool
from stairstream.core.context import Context
from stairstream.core.errors import RequestRejected
from stairstream.core.graph import Extras, Sampling
from stairstream.core.prompts import Prompt, find_edges
from stairstream.core.session import Layout, Note

VERSION = "2023-06-01"
OFF: Fields = {"type": "disabled"}
"""The value of `thinking` in a call that is not to think."""

_NOT_WITH_THOUGHTS = ("temperature", "top_p", "top_k")
_TOO_MANY = re.compile(r"max_tokens: \d+ > (\d+)")


class MessagesEndpoint(Endpoint):
    """The address that requests go to. The key goes into the header `x-api-key` and nowhere else.

    `headers` are sent with every request, as those of a beta or of a gateway; no error shows their values. With
    `marks_cache` the parts of a prompt that stay the same are marked for the prompt cache. `effort` is asked of the
    model in every request.
    """

    path = "/v1/messages"
    models_path = "/v1/models"
    kind = "message"
    url_hint = "without /v1/messages"
    sparable = ("top_p", "top_k", "temperature", "metadata")

    def __init__(
        self,
        base_url: str,
        model: str,
        pool: HttpPool,
        api_key: str | None,
        headers: Mapping[str, str],
        marks_cache: bool,
        effort: str | None,
    ) -> None:
        super().__init__(base_url.rstrip("/").removesuffix("/v1"), model, pool, api_key, secrets=headers.values())
        self._more_headers = headers
        self._marks_cache = marks_cache
        self._effort = effort
        self._most_tokens: int | None = None
        self._cannot_stop_thinking = False
        # its thoughts have blocks of their own; of other servers' models who knows
        self.is_native = is_hosted(self.base_url, model)
        self.lone_tag = False if self.is_native else None

    @property
    def can_stop_thinking(self) -> bool:
        """Whether it has not said that the model always thinks."""
        return not self._cannot_stop_thinking

    def body(
        self,
        prompt: Prompt,
        sampling: Sampling,
        max_tokens: int,
        continues: Continues,
        extras: Extras | None = None,
    ) -> Fields:
        try:
            system, turns = make_turns(prompt)
            options = make_options(extras or Extras(), self._effort)
        except RequestRejected as exc:
            raise RequestRejected(f"{self.where}: {exc}") from None
        body: Fields = {"model": self.model, "max_tokens": max_tokens, "messages": turns, "stream": True}
        body |= {"system": system} if system else {}
        return body | make_sampling(sampling) | options

    def fit(self, prompt: Prompt, context: Context, layout: Layout) -> tuple[Prompt, str]:
        if self._marks_cache:
            prompt = replace(prompt, edges=find_edges(context, layout, prompt))
        return prompt.strip_last()

    def make_reader(
        self, *, finds_thoughts: bool = False, withholds: bool = False, is_sure: bool = False
    ) -> MessageReader:
        return MessageReader(finds_thoughts=finds_thoughts and not self.is_native, withholds=withholds, is_sure=is_sure)

    def _headers(self) -> Mapping[str, str]:
        key = {"x-api-key": self._key} if self._key else {}
        return {**super()._headers(), "anthropic-version": VERSION, **self._more_headers, **key}

    def _notes(self, body: Fields) -> list[Note]:
        notes = super()._notes(body)
        if body.get("thinking") == OFF and self._cannot_stop_thinking:
            text = f"{self.where} can't stop thinking: the model thinks anew whenever its answer is continued"
            notes.append(Note(kind="reasoning", text=text))
        if _thinks(body):
            dropped = [name for name in _NOT_WITH_THOUGHTS if name in body]
            notes += [Note(kind="ignored", text=f"{name}: the API takes none where a model thinks") for name in dropped]
        return notes

    def _shape(self, body: Fields) -> Fields:
        shaped = super()._shape(body)
        if self._most_tokens is not None:
            max_tokens = body["max_tokens"]
            assert isinstance(max_tokens, int)
            shaped["max_tokens"] = min(self._most_tokens, max_tokens)
        thinking = shaped.get("thinking")
        if thinking == OFF and self._cannot_stop_thinking:
            del shaped["thinking"]
        elif _thinks(shaped) and forces_tool(shaped):
            shaped["thinking"] = OFF
        elif _thinks(shaped):
            shaped = {name: value for name, value in shaped.items() if name not in _NOT_WITH_THOUGHTS}
        return shaped

    def _adapt(self, sent: Fields, message: str) -> bool:
        if (found := _TOO_MANY.search(message)) and self._most_tokens is None:
            self._most_tokens = int(found[1])
            return True
        if sent.get("thinking") == OFF and "thinking" in message:
            self._cannot_stop_thinking = True
            return True
        return self._leave_out(self.sparable, sent, message)


def _thinks(body: Fields) -> bool:
    """Whether a request asks for thoughts."""
    return body.get("thinking", OFF) != OFF
