"""Any OpenAI-compatible `/v1/chat/completions` endpoint, as a backend.

How an endpoint continues an answer is in `capabilities`; one agent's context there is a session of `openai_session`.
"""

from collections.abc import Iterable
from typing import get_args

from stairstream.backends.bodies import read_body
from stairstream.backends.capabilities import (
    PROBE,
    PROBE_TOKENS,
    UNPROBED,
    Capabilities,
    Capability,
    Continues,
    ProbeMode,
    look_up,
)
from stairstream.backends.endpoint import Endpoint
from stairstream.backends.http import NETWORK_ERRORS, HttpPool, connection_error
from stairstream.backends.openai_session import OpenAISession
from stairstream.backends.preparing import LESS_THINKING, Reasoning
from stairstream.backends.wire import AnswerReader
from stairstream.core.context import Context
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import Conversation
from stairstream.core.prompts import Prompt
from stairstream.core.session import Setting, Takes
from stairstream.core.sse import MAX_EVENT_BYTES


class OpenAIBackend:
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

    room = None  # an endpoint takes as many as come; its own limits are answered with 429

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
        self.model = model
        self.takes: frozenset[Takes | Setting] = frozenset((*takes, *get_args(Setting)))
        self.prefetches = prefetches
        self.session_header = session_header
        self.reasoning = reasoning
        self.thinking_tokens = thinking_tokens
        self.endpoint = Endpoint(base_url, model, pool, api_key, cache_salt)
        self._capabilities = capabilities
        self._continues = continues
        self._rejecting: Capability | None = None
        self._has_continued = False

    @property
    def capability(self) -> Capability:
        """The way the endpoint continues an answer, as far as is known without asking it."""
        if self._rejecting:
            return self._rejecting
        if self._continues:
            return Capability(continues=self._continues, why="set in the configuration", is_seen=self._has_continued)
        key = (self.endpoint.base_url, self.model)
        return look_up(*key) or self._capabilities.get(*key) or UNPROBED

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> OpenAISession:
        """A session; nothing is sent yet."""
        return OpenAISession(self, Context(agent=agent, conversation=conversation, written=written))

    async def aclose(self) -> None:
        """Nothing is this backend's alone."""

    async def settle(self, is_fresh: bool = False) -> Capability:
        """The way the endpoint continues, by a probe if neither configuration nor table say; raises a BackendError.

        `is_fresh` probes even if an earlier result is at hand.
        """
        if self._continues or look_up(self.endpoint.base_url, self.model):
            return self.capability
        return await self._capabilities.settle(self.endpoint.base_url, self.model, self._ask_probe, is_fresh)

    def note_continued(self) -> None:
        """The endpoint has continued an answer, as the configuration says it can."""
        self._has_continued = True

    def note_rejection(self, capability: Capability) -> None:
        """The endpoint has turned out to reject what it was thought to continue: from now on that counts."""
        self._rejecting = capability

    async def _ask_probe(self, mode: ProbeMode) -> str:
        prompt = Prompt(messages=PROBE, continues_last=True)
        body = self.endpoint.body(prompt, Sampling(temperature=0), PROBE_TOKENS, mode)
        less_thinking = LESS_THINKING.get(self.reasoning, {})
        response, _ = await self.endpoint.send({**body, **less_thinking, "stream": False})
        reader = AnswerReader()
        try:
            pieces = reader.feed_whole(await read_body(response, MAX_EVENT_BYTES))
        except NETWORK_ERRORS as exc:
            raise connection_error(exc, self.endpoint.where) from exc
        self.endpoint.check(reader)
        return "".join(piece.text for piece in pieces)
