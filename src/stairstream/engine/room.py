"""Tokens that an agent may still read before its model's context window is full: then updates stop, and the answer
continues."""

from dataclasses import dataclass

from stairstream.core.graph import Agent
from stairstream.core.messages import Conversation, estimate_size
from stairstream.core.tokens import estimate_tokens

LEAST_ANSWER_SHARE = 0.25
"""The part of a context that references never take from the answer, where `max_tokens` asks for that much."""


@dataclass(slots=True)
class ContextRoom:
    """Counts in tokens, as exactly as the backend's own counts are."""

    context_tokens: int | None
    max_tokens: int
    prompt_tokens: int

    @classmethod
    def of(cls, agent: Agent, conversation: Conversation) -> "ContextRoom":
        """Before the first call: an estimate of all that will stand in the prompt besides references."""
        words = estimate_tokens(agent.instructions) + estimate_tokens(agent.wording.combine)
        words += estimate_tokens(agent.begun)
        overhead = 16 * (len(agent.reads) + len(conversation))
        prompt_tokens = words + sum(estimate_size(message) for message in conversation) + overhead
        return cls(agent.context_tokens, agent.sampling.max_tokens, prompt_tokens)

    def began(self, prompt_tokens: int) -> None:
        """A call has begun with a prompt of this size, own words so far included."""
        self.prompt_tokens = prompt_tokens

    def for_references(self, written: int, step_written: int) -> float:
        """Tokens that may still be read; infinite where the context's size is not known."""
        if self.context_tokens is None:
            return float("inf")
        wanted = min(self.max_tokens - written, int(self.context_tokens * LEAST_ANSWER_SHARE))
        return self.context_tokens - self.prompt_tokens - step_written - max(wanted, 0)
