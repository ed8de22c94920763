"""The deciding half of an agent: how far it and its upstream are, and what follows from that by its policy."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from stairstream.core.decisions import Decision, Own, Upstream, Write, decide
from stairstream.core.events import Noted, Reading
from stairstream.core.graph import Agent
from stairstream.core.journal import AgentPast
from stairstream.core.messages import Conversation
from stairstream.core.outlook import FirstCall, Foresight
from stairstream.core.session import Chunk, Ended, Note
from stairstream.core.worth import weigh
from stairstream.engine.output import Output
from stairstream.engine.reader import Reader
from stairstream.engine.room import ContextRoom
from stairstream.engine.surroundings import Surroundings


class Progress:
    """Keeps what `core.decisions` has to know of one agent, and asks it."""

    def __init__(
        self,
        agent: Agent,
        conversation: Conversation,
        output: Output,
        reader: Reader,
        now: Callable[[], float],
        surroundings: Surroundings,
        foresight: Foresight | None,
    ) -> None:
        """`now` is the time since the run began, and never less than that of a timer that has rung."""
        self._agent = agent
        self._policy = replace(agent.policy, first_chunk=math.inf) if agent.one_call else agent.policy
        self._conversation = conversation
        self._output = output
        self._reader = reader
        self._now = now
        self._surroundings = surroundings
        self._room = ContextRoom.of(agent, conversation)
        self._own = Own(max_tokens=agent.sampling.max_tokens)
        self._has_read = False
        self._was_full = False
        self._foresight = foresight
        self._head_tokens = self._room.prompt_tokens
        self._spent_tokens = 0
        self._first_read: int | None = None
        self._first_asked_s = 0.0
        self._first_rested_s = math.inf
        self.had_ended = False
        """Whether the model had ended by itself before the last step."""

    @property
    def has_begun(self) -> bool:
        """Whether a step has begun."""
        return self._own.steps > 0

    @property
    def tokens_left(self) -> int:
        """Tokens that the agent may still write in all, when it last decided."""
        return self._own.max_tokens - self._own.num_written

    def decide(self, step_tokens: int) -> Decision:
        """Decides what the agent does next; `step_tokens`: what the step in flight, or the last one, has written."""
        upstream, now = self._reader.progress(), self._now()
        own = replace(self._own, step_written=step_tokens, num_written=self._output.num_tokens)
        self._own, decision = decide(self._policy, upstream, own, now)
        if self._foresight is not None and isinstance(decision, Write) and decision.reads:
            decision = self._weigh(self._foresight, upstream, self._own, now)
        is_update = isinstance(decision, Write) and decision.reads and self._has_read
        if is_update and self._reader.exceeds(self._room_to_read(step_tokens)):
            self._be_full("the context is nearly full: no more updates, the answer continues with what it has read")
            self._own, decision = decide(self._policy, upstream, self._own, now)
        return decision

    def _weigh(self, foresight: Foresight, upstream: Sequence[Upstream], own: Own, now: float) -> Decision:
        """Decide about a step that is due with what is expected in mind."""
        outlook = foresight.outlook(
            upstream, self._reader.speeches(), own, self._first_call(), now, self._head_tokens, self._spent_tokens
        )
        self._own, decision = decide(self._policy, upstream, weigh(upstream, own, now, outlook), now)
        return decision

    def _first_call(self) -> FirstCall | None:
        """The facts that the first call has shown, once it has spoken."""
        speech = self._output.forwarded.speech()
        if self._first_read is None or speech is None or speech.begun_s > self._first_rested_s:
            return None
        return FirstCall(self._first_read, speech.begun_s - self._first_asked_s)

    def take(self, step_tokens: int) -> tuple[list[Chunk], tuple[Reading, ...]]:
        """Everything that is unread; cut to the context window, which only the first step of a session can need."""
        self._has_read = True
        room = self._room_to_read(step_tokens)
        if self._reader.exceeds(room):
            self._be_full("the references are longer than the context: only their beginnings were read")
        return self._reader.take(room)

    def begin_step(self, limit: int) -> None:
        """A step of up to `limit` tokens begins."""
        own, now = self._own, self._now()
        self.had_ended = own.model_ended_at is not None
        waited_s = now - own.model_ended_at if own.model_ended_at is not None else 0.0
        if self._first_read is None:
            self._first_read, self._first_asked_s = self._reader.num_read, now
        self._own = replace(
            own,
            steps=own.steps + 1,
            is_writing=True,
            model_ended_at=None,
            is_confirmed=False,
            waited_s=own.waited_s + waited_s,
            quorum_since=None,
            is_full=own.is_full or self._agent.one_call,
            limit=own.num_written + limit,
            asked_s=now,
            held_until=None,
            spared_until=None,
        )

    def begin_call(self, prompt_tokens: int) -> None:
        """The step's call has begun, with a prompt of this size."""
        self._room.began(prompt_tokens)
        if not self._spent_tokens and self._first_read is not None:
            self._head_tokens = max(0, prompt_tokens - self._first_read)
        self._spent_tokens += prompt_tokens

    def end_step(self, ended: Ended, at_s: float, *, adds_nothing: bool) -> None:
        """A step is over; an update that adds nothing, and ends by its model, confirms the end before it."""
        has_stopped = ended.reason == "stop"
        self._first_rested_s = min(self._first_rested_s, at_s)
        self._own = replace(
            self._own,
            is_writing=False,
            model_ended_at=at_s if has_stopped else None,
            is_confirmed=has_stopped and adds_nothing,
        )

    def take_again(self) -> tuple[list[Chunk], tuple[Reading, ...]]:
        """The text that was read before this session was opened, if it has not seen it."""
        return self._reader.take_again()

    def restore(self, past: AgentPast) -> None:
        """Continue where the agent was when its process was lost.

        A step that was in flight is made again, with everything that had been read and what is there by now.
        """
        self._own, self._was_full = past.own, "full" in past.said
        self._output.recount(past.uncounted_tokens)
        if past.readings:
            self._reader.restore(past.readings, is_rewound=past.is_rewound)
        if past.own.steps:
            self._foresight = None
        self._room.prompt_tokens += self._output.num_tokens + self._reader.num_read

    def hand_over(self, step_tokens: int) -> None:
        """Another model begins the step that failed again, with everything that had been read.

        Its calls may be of another speed, so that nothing is expected any more.
        """
        self._foresight = None
        self._reader.rewind()
        is_undone = self._own.is_writing or not step_tokens
        steps = max(0, self._own.steps - 1) if is_undone else self._own.steps
        self._own = replace(
            self._own, steps=steps, is_writing=False, model_ended_at=None, is_confirmed=False, is_full=False
        )
        self._has_read = False
        self._room = ContextRoom.of(self._agent, self._conversation)
        self._room.prompt_tokens += self._output.num_tokens

    def _room_to_read(self, step_tokens: int) -> float:
        return self._room.for_references(self._output.num_tokens, step_tokens)

    def _be_full(self, text: str) -> None:
        """Read no more; said once, though a fallback reads under the same lack of room."""
        self._own = replace(self._own, is_full=True)
        if not self._was_full:
            self._was_full = True
            note, at_s = Note(kind="full", text=text), self._surroundings.clock()
            self._surroundings.emit(Noted(at_s=at_s, agent=self._agent.name, note=note))
