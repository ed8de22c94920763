"""A fake model, and the record that the fake server keeps of each call: values only."""

from dataclasses import dataclass
from typing import Literal

import msgspec

from stairstream.backends.scripted import Script

FakeContinues = Literal["flag", "prefill", "prefix", "none", "reject"]
"""The ways to continue an assistant message. `flag`, `prefix`: only where the request says so, else it begins anew.
`prefill`: a trailing one is continued, and the flag is answered with 400. `none`: it always begins anew.
`reject`: a trailing one is answered with 400."""


FakeThinking = Literal["reasoning_content", "reasoning", "inline"]
"""A fake model's thoughts are in this field of the delta, or, inline, between <think> tags in front of its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeModel:
    """One model of the fake server: what it says and when (`script`), and how its endpoint behaves.

    What the script's manner says of usage goes for the endpoint: with `at_end` and `none` it ignores that continuous
    usage, or any, is asked for. A token without text that is not in a batch with others comes as empty content or none.
    `echoes` repeats the continued text at the start of the answer, as llama.cpp's server does. `rejects` names
    body fields that are answered with 400. `api_key` None lets all in. Thoughts of the script come as `thinking`
    says, count towards the limit as words do, and are left out where the request switches them off: by
    `chat_template_kwargs`, or by the least of `efforts`, which are the values of `reasoning_effort` that it knows.
    Where there are tools it calls those of its script, as the scripted backend does; where the answer is to be JSON it
    says `json_text`. With `keeps_prompts` its calls keep what they were asked: `prompt` as text, and the body's
    `messages` and other `fields` as they came.
    """

    name: str
    script: Script
    continues: FakeContinues = "flag"
    echoes: bool = False
    ignores_stream: bool = False
    ignores_max_tokens: bool = False
    rejects: tuple[str, ...] = ()
    api_key: str | None = None
    thinking: FakeThinking = "reasoning_content"
    efforts: tuple[str, ...] = ("minimal", "low", "medium", "high")
    keeps_prompts: bool = False
    json_text: str = '{"answer": 42}'


class FakeCall(msgspec.Struct, kw_only=True):
    """One request for an answer. Times are `time.monotonic()`, which processes of one machine share."""

    model: str
    started_s: float
    prompt_tokens: int
    cached_tokens: int | None = None
    max_tokens: int | None = None
    first_word: int = 0
    written_tokens: int = 0
    thought_tokens: int = 0
    prompt: str | None = None
    messages: list[dict[str, object]] | None = None
    fields: dict[str, object] | None = None
    ended: Literal["open", "done", "failed", "left"] = "open"
    ended_s: float | None = None

    @property
    def all_tokens(self) -> int:
        """Tokens of thoughts and of the answer so far."""
        return self.thought_tokens + self.written_tokens
