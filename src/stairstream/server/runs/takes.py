"""What models take besides text: images, tools, formats. Who asks for more than that gets a clear no."""

import msgspec

from stairstream.api import Pipeline
from stairstream.config.reading import nearest
from stairstream.core.asked import Asked
from stairstream.core.messages import Conversation, ImagePart
from stairstream.core.session import Takes
from stairstream.server.errors import bad


def check_takes(pipeline: Pipeline, conversation: Conversation, asked: Asked, notes: list[str]) -> None:
    """ApiError for what the models do not take; a note where only some agents are shown the images."""
    answering = pipeline.graph.agent(pipeline.graph.answer)
    wanted: dict[Takes, bytes | None] = {"tools": asked.tools, "response_format": asked.response_format}
    for name, value in wanted.items():
        if value is not None and name not in pipeline.backends[answering.model].takes:
            raise bad(name, f"model {answering.model!r}, which answers, does not take it", "unsupported_parameter")
    if asked.tools is not None and asked.names_tool:
        _check_named(asked)
    if any(message.has_images for message in conversation):
        _check_images(pipeline, conversation, notes)


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


def _check_named(asked: Asked) -> None:
    """The tool that must be called must be there."""
    named = msgspec.json.decode(asked.tool_choice or b"", type=_Tool).function.name
    names = [tool.function.name for tool in msgspec.json.decode(asked.tools or b"", type=list[_Tool])]
    if named not in names:
        raise bad("tool_choice", f"{named[:80]!r} is none of the tools{nearest(named, names)}")


def _check_images(pipeline: Pipeline, conversation: Conversation, notes: list[str]) -> None:
    agents = pipeline.graph.agents
    seeing = [agent.name for agent in agents if "images" in pipeline.backends[agent.model].takes]
    if not seeing:
        problem = f"no model of {pipeline.settings.name!r} takes images"
        raise bad(_first_image(conversation), problem, "unsupported_parameter")
    if len(seeing) < len(agents):
        notes.append(f"images are shown to {', '.join(seeing)} only")


def _first_image(conversation: Conversation) -> str:
    """Where the first image is in the request."""
    return next(
        f"messages[{number}].content[{place}].image_url"
        for number, message in enumerate(conversation)
        for place, part in enumerate(message.parts)
        if isinstance(part, ImagePart)
    )
