"""A model at a URL that speaks OpenAI's chat completions: the body of a request, and what of it is not taken."""

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import msgspec

from stairstream.backends.capabilities import Continues, is_hosted
from stairstream.backends.endpoint import Endpoint, Fields
from stairstream.backends.http import HttpPool
from stairstream.core.graph import Extras, Sampling
from stairstream.core.messages import as_dicts, move_images
from stairstream.core.prompts import Prompt
from stairstream.core.session import Note, Setting

_MOST_REJECTED = 256
"""Settings of clients that are remembered as rejected, each with its value: another value may be taken."""

EFFORTS = ("minimal", "low")
"""Values of `reasoning_effort`, least first: not every reasoning model knows the first."""

Reasoning = Literal["template", "effort", "always"]
"""The way a reasoning model is kept from thinking anew, if at all."""

LESS_THINKING: Mapping[Reasoning | None, Fields] = {
    "template": {"chat_template_kwargs": {"enable_thinking": False}},
    "effort": {"reasoning_effort": EFFORTS[0]},
}


class ChatEndpoint(Endpoint):
    """The address that requests go to. The key goes into the Authorization header and nowhere else.

    `cache_salt` goes into every request: only those with the same one share a prefix cache.
    """

    path = "/chat/completions"
    kind = "chat completion"
    url_hint = "it often ends in /v1"
    sparable = ("seed", "temperature", "top_p", "parallel_tool_calls", "user")

    def __init__(
        self, base_url: str, model: str, pool: HttpPool, api_key: str | None, cache_salt: str | None = None
    ) -> None:
        super().__init__(base_url, model, pool, api_key, secrets=[cache_salt] if cache_salt else [])
        self._stream_options: Fields = {"include_usage": True}
        if not is_hosted(self.base_url, model):
            self._stream_options["continuous_usage_stats"] = True
        # never left out: who asks for it must not share a cache with others
        self._fixed: Fields = {"cache_salt": cache_salt} if cache_salt else {}
        self._rejected: set[tuple[str, bytes]] = set()
        self._effort = EFFORTS[0]
        self._limit_field = "max_tokens"

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

    def _headers(self) -> Mapping[str, str]:
        headers = super()._headers()
        return {**headers, "Authorization": f"Bearer {self._key}"} if self._key else headers

    def _notes(self, body: Fields) -> list[Note]:
        notes = super()._notes(body)
        rejected = [name for name, value in _client_settings(body) if (name, value) in self._rejected]
        notes += [Note(kind="ignored", text=f"{name}: {self.where} rejects it") for name in rejected]
        for name, how in (("chat_template_kwargs", "off"), ("reasoning_effort", f"down to {self._effort}")):
            if name not in body or isinstance(body[name], msgspec.Raw):  # the client's own effort
                continue
            if self.takes(name):
                notes.append(Note(kind="reasoning", text=f"thinking is switched {how} when the answer is continued"))
            else:
                text = f"{self.where} rejects {name}: the model thinks anew whenever its answer is continued"
                notes.append(Note(kind="reasoning", text=text))
        return notes

    def _shape(self, body: Fields) -> Fields:
        shaped = super()._shape(body)
        for name, value in _client_settings(shaped):
            if (name, value) in self._rejected:
                del shaped[name]
        shaped[self._limit_field] = shaped.pop("max_tokens")
        if isinstance(shaped.get("reasoning_effort"), str):  # ours
            shaped["reasoning_effort"] = self._effort
        if shaped["stream"] and "stream_options" not in self._left_out:
            shaped["stream_options"] = self._stream_options
        return shaped

    def _adapt(self, sent: Fields, message: str) -> bool:
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
        return self._leave_out(
            ("stream_options", *self.sparable, "chat_template_kwargs", "reasoning_effort"), sent, message
        )


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
