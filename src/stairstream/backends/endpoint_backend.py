"""One model behind an HTTP endpoint, whatever its protocol: how it continues an answer, and what its sessions share."""

from collections.abc import Iterable, Sequence

from stairstream.backends.bodies import read_body
from stairstream.backends.call import Call
from stairstream.backends.capabilities import (
    PROBE,
    PROBE_MODES,
    PROBE_TOKENS,
    UNPROBED,
    Capabilities,
    Capability,
    Continues,
    ProbeMode,
    look_up,
)
from stairstream.backends.endpoint import Endpoint, Fields
from stairstream.backends.endpoint_session import EndpointSession
from stairstream.backends.http import NETWORK_ERRORS, connection_error
from stairstream.core.context import Context
from stairstream.core.graph import Agent, Sampling
from stairstream.core.messages import Conversation
from stairstream.core.prompts import Prompt
from stairstream.core.session import Setting, Takes
from stairstream.core.sse import MAX_EVENT_BYTES


class EndpointBackend:
    """The common part of all backends for endpoints; a subclass says how its protocol lays out a call (`prepare`).

    `capabilities` are shared by all backends of a process. `continues` says how the endpoint continues an answer; None
    (auto) leaves it to the table and the probe, which tries `probe_modes`.
    """

    room = None  # an endpoint takes as many as come; its own limits are answered with 429
    probe_modes: Sequence[ProbeMode] = PROBE_MODES

    def __init__(
        self,
        endpoint: Endpoint,
        capabilities: Capabilities,
        *,
        continues: Continues | None,
        takes: Iterable[Takes | Setting],
        session_header: str | None = None,
        prefetches: bool = False,
    ) -> None:
        self.model = endpoint.model
        self.takes: frozenset[Takes | Setting] = frozenset(takes)
        self.prefetches = prefetches
        self.session_header = session_header
        self.endpoint = endpoint
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

    async def open(self, agent: Agent, conversation: Conversation, written: str = "") -> EndpointSession:
        """A session; nothing is sent yet."""
        return EndpointSession(self, Context(agent=agent, conversation=conversation, written=written))

    async def aclose(self) -> None:
        """Nothing is this backend's alone."""

    def prepare(self, context: Context, limit: int, capability: Capability, thinks_inline: bool) -> Call:
        """A call that is not sent yet, for up to `limit` tokens of answer."""
        raise NotImplementedError

    def probe_fields(self) -> Fields:
        """Fields that a probe has besides: those that keep the model from thinking."""
        return {}

    async def settle(self, is_fresh: bool = False) -> Capability:
        """The way the endpoint continues, by a probe if neither configuration nor table say; raises a BackendError.

        `is_fresh` probes even if an earlier result is at hand.
        """
        key = (self.endpoint.base_url, self.model)
        if self._continues or look_up(*key):
            return self.capability
        return await self._capabilities.settle(*key, self._ask_probe, is_fresh, self.probe_modes)

    def note_continued(self) -> None:
        """The endpoint has continued an answer, as the configuration says it can."""
        self._has_continued = True

    def note_rejection(self, capability: Capability) -> None:
        """The endpoint has turned out to reject what it was thought to continue: from now on that counts."""
        self._rejecting = capability

    async def _ask_probe(self, mode: ProbeMode) -> str:
        prompt = Prompt(messages=PROBE, continues_last=True)
        body = self.endpoint.body(prompt, Sampling(temperature=0), PROBE_TOKENS, mode)
        response, _ = await self.endpoint.send({**body, **self.probe_fields(), "stream": False})
        reader = self.endpoint.make_reader()
        try:
            pieces = reader.feed_whole(await read_body(response, MAX_EVENT_BYTES))
        except NETWORK_ERRORS as exc:
            raise connection_error(exc, self.endpoint.where) from exc
        self.endpoint.check(reader)
        return "".join(piece.text for piece in pieces)
