"""Any endpoint with Anthropic's Messages API, as a backend.

How a prompt becomes a body is in `turns` and `options`, how an answer is read in `reader`; the rest is that of every
endpoint.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from stairstream.backends.anthropic.endpoint import OFF, MessagesEndpoint
from stairstream.backends.anthropic.options import SETTINGS, ignored_of
from stairstream.backends.call import Call
from stairstream.backends.capabilities import Capabilities, Capability
from stairstream.backends.endpoint import Fields
from stairstream.backends.endpoint_backend import EndpointBackend
from stairstream.backends.http import HttpPool
from stairstream.backends.preparing import prepare
from stairstream.core.context import Context
from stairstream.core.session import Note, Takes

Thinking = Literal["disabled", "adaptive", "enabled", "always"]
"""The way a model thinks in an agent's first call. `disabled`: not at all; `adaptive`: as much as it decides;
`enabled`: up to a number of tokens; `always`: it can't be kept from it, so that nothing is said."""

Effort = Literal["low", "medium", "high", "xhigh", "max"]

LEAST_BUDGET = 1024
"""Fewer thinking tokens the API does not take as a budget."""

_SWITCHED_OFF = Note(kind="reasoning", text="thinking is switched off when the answer is continued")


class AnthropicBackend(EndpointBackend):
    """One model of Anthropic's Messages API, or of a server that speaks it.

    `pool` and `capabilities` are shared by all backends of a process, and closed by who made them. `continues` says
    whether the model continues a message of the assistant (`prefill`) or not (`none`); None (auto) leaves it to the
    table and the probe. `thinking` holds for an agent's first call: later ones, which continue an answer, do not think
    where that can be had; None says nothing of it, which leaves it to the model. `thinking_tokens` are the budget of
    `enabled`, and room on top of the limit of any call that thinks. `headers` are sent besides; `marks_cache` marks
    for the prompt cache what the next call of an answer sends again.
    """

    probe_modes = ("prefill",)

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        pool: HttpPool,
        capabilities: Capabilities,
        api_key: str | None = None,
        continues: Literal["prefill", "none"] | None = None,
        thinking: Thinking | None = None,
        thinking_tokens: int = 0,
        effort: Effort | None = None,
        headers: Mapping[str, str] | None = None,
        marks_cache: bool = True,
        takes: Iterable[Takes] = ("tools", "response_format", "images"),
    ) -> None:
        assert thinking != "enabled" or thinking_tokens >= LEAST_BUDGET
        self._messages = MessagesEndpoint(base_url, model, pool, api_key, headers or {}, marks_cache, effort)
        super().__init__(self._messages, capabilities, continues=continues, takes=(*takes, *SETTINGS))
        self.thinking = thinking
        self.thinking_tokens = thinking_tokens

    def prepare(self, context: Context, limit: int, capability: Capability, thinks_inline: bool) -> Call:
        """A call that is not sent yet; one that continues an answer does not think, where that can be had."""
        agent = context.agent
        if agent.extras.response_format is not None and capability.continues != "none":
            capability = Capability(continues="none", why="the API continues no answer that is held to a format")
        thinking = self._thinking_of(context)
        is_off = thinking == OFF and self._messages.can_stop_thinking
        call = prepare(
            context,
            limit,
            capability,
            self._messages,
            settings={"thinking": thinking} if thinking else {},
            thinking_tokens=None if is_off else self.thinking_tokens,
            thinks_inline=thinks_inline,
        )
        call.notes += ignored_of(agent.sampling, self._messages.where)
        if is_off and context.written and self.thinking in ("adaptive", "enabled"):
            call.notes += (_SWITCHED_OFF,)
        return call

    def probe_fields(self) -> Fields:
        """Thinking is off: a model that thinks continues nothing."""
        return {} if self.thinking == "always" else {"thinking": OFF}

    def _thinking_of(self, context: Context) -> Fields:
        """The field `thinking` of the next call; empty: it is left out."""
        if self.thinking == "always":
            return {}
        if context.written or self.thinking == "disabled":
            return OFF
        if self.thinking == "adaptive":
            return {"type": "adaptive", "display": "summarized"}
        if self.thinking == "enabled":
            # the API wants to see the thoughts before the calls of tools again, signed, and they were not kept
            has_results = context.conversation[-1].role == "tool"
            return OFF if has_results else {"type": "enabled", "budget_tokens": self.thinking_tokens}
        return {}
