"""The models that a graph needs, what a request needs of them, and the conversation as each of them gets to see it."""

from collections.abc import Mapping

from stairstream.backends.base import Backend
from stairstream.core.errors import ConfigError, NotTaken
from stairstream.core.graph import Agent, Graph
from stairstream.core.messages import Conversation
from stairstream.core.plain import plain
from stairstream.core.session import Takes

_WORDS: Mapping[Takes, str] = {"images": "images", "tools": "tools", "response_format": "a response_format"}


def check_backends(graph: Graph, backends: Mapping[str, Backend]) -> None:
    """Raises ConfigError for an agent whose model, or fallback, has no backend."""
    for agent in graph.agents:
        for model in (agent.model, *agent.fallbacks):
            if model not in backends:
                known = ", ".join(sorted(backends)) or "none"
                raise ConfigError(
                    f"agent {agent.name!r} wants model {model!r}, which has no backend; there are: {known}"
                )


def check_needs(graph: Graph, conversation: Conversation, backends: Mapping[str, Backend]) -> None:
    """Raises NotTaken where the answering model, or for images every model, does not take what is asked."""
    answer = graph.agent(graph.answer)
    if answer.extras.needs and (missing := missing_of(answer, backends[answer.model])):
        text = f"{missing} can't be asked for here: model {answer.model!r}, which answers, does not take it"
        raise NotTaken(text, max(answer.extras.needs - backends[answer.model].takes), answer.model)
    if any(message.has_images for message in conversation) and not any(
        "images" in backends[agent.model].takes for agent in graph.agents
    ):
        raise NotTaken("images can't be shown here: no model of this pipeline is said to take them", "images")


def missing_of(agent: Agent, backend: Backend) -> str:
    """Inputs of an agent that a model does not take, in words; "" if there are none."""
    needs = agent.extras.needs
    return " and ".join(_WORDS[one] for one in sorted(needs - backend.takes)) if needs else ""


def fit(conversation: Conversation, agent: Agent, backend: Backend) -> Conversation:
    """The conversation as this model takes it. Only an agent with tools sees calls of tools as such."""
    wanted: set[Takes] = {"images"} if agent.extras.tools is None else {"images", "tools"}
    return plain(conversation, wanted & backend.takes)
