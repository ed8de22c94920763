"""Any OpenAI-compatible `/v1/chat/completions` endpoint, as a backend.

How an endpoint continues an answer is in `capabilities`; one agent's context there is a session of `endpoint_session`.
"""

from collections.abc import Iterable
from typing import get_args

from stairstream.backends.call import Call
from stairstream.backends.capabilities import Capabilities, Capability, Continues
from stairstream.backends.chat_endpoint import LESS_THINKING, ChatEndpoint, Reasoning
from stairstream.backends.endpoint import Fields
from stairstream.backends.endpoint_backend import EndpointBackend
from stairstream.backends.http import HttpPool
from stairstream.backends.preparing import prepare
from stairstream.core.context import Context
from stairstream.core.session import Setting, Takes


class OpenAIBackend(EndpointBackend):
    """One model behind an OpenAI-compatible endpoint.

    `pool` and `capabilities` are shared by all backends of a process, and closed by who made them. `continues` says
    how the endpoint continues an answer; None (auto) leaves it to the table and the probe.

    `reasoning` is how the thoughts of a reasoning model can be kept from coming anew whenever its answer continues:
    `template` switches them off (`chat_template_kwargs`), `effort` down (`reasoning_effort`), `always` means that
    nothing can be done. A call that may think gets `thinking_tokens` on top of its limit.

    `cache_salt` keeps a server's prefix cache apart from that of others with another one. `session_header` names a
    header that holds the same value in all calls of a session, for routers that send it to the server that knows it.
    With `prefetches` the prompt of each update is sent once before, for one token, while the call in flight still
    speaks: shorter gaps, for twice the prompt tokens, where the endpoint caches prefixes. `takes` is what the model
    takes besides text; it is handed all settings of a request, and what it rejects is left out.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        pool: HttpPool,
        capabilities: Capabilities,
        api_key: str | None = None,
        continues: Continues | None = None,
        reasoning: Reasoning | None = None,
        thinking_tokens: int = 0,
        cache_salt: str | None = None,
        session_header: str | None = None,
        prefetches: bool = False,
        takes: Iterable[Takes] = ("tools", "response_format"),
    ) -> None:
        super().__init__(
            ChatEndpoint(base_url, model, pool, api_key, cache_salt),
            capabilities,
            continues=continues,
            takes=(*takes, *get_args(Setting)),
            session_header=session_header,
            prefetches=prefetches,
        )
        self.reasoning = reasoning
        self.thinking_tokens = thinking_tokens

    def prepare(self, context: Context, limit: int, capability: Capability, thinks_inline: bool) -> Call:
        """A call that is not sent yet, with less thinking where an answer is continued."""
        settings = self.probe_fields() if context.written else {}
        is_off = "chat_template_kwargs" in settings and self.endpoint.takes("chat_template_kwargs")
        return prepare(
            context,
            limit,
            capability,
            self.endpoint,
            settings=settings,
            thinking_tokens=None if is_off else self.thinking_tokens,
            thinks_inline=thinks_inline,
        )

    def probe_fields(self) -> Fields:
        """The least thinking that can be asked for."""
        return LESS_THINKING.get(self.reasoning, {})
