"""Checks of input besides text: images, tools, formats. A request that no model takes gets a clear error."""

from collections.abc import Mapping

import msgspec

from stairstream.api import Pipeline
from stairstream.config.reading import nearest
from stairstream.core.errors import NotTaken
from stairstream.core.messages import Conversation, ImagePart
from stairstream.core.options import RequestOptions
from stairstream.server.errors import ApiError, bad


class _Function(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Function


def check_tools(options: RequestOptions, *, must_call: bool) -> None:
    """Raise ApiError if a tool must be called that is not among the tools."""
    if options.tools is None:
        if must_call:
            raise bad("tool_choice", "asks for a call, and there are no tools")
    elif options.names_tool:
        named = msgspec.json.decode(options.tool_choice or b"", type=_Tool).function.name
        names = [tool.function.name for tool in msgspec.json.decode(options.tools, type=list[_Tool])]
        if named not in names:
            raise bad("tool_choice", f"{named[:80]!r} is none of the tools{nearest(named, names)}")


def note_images(pipeline: Pipeline, conversation: Conversation) -> list[str]:
    """A note if only some agents are shown the images."""
    if not any(message.parts for message in conversation):
        return []
    agents = pipeline.graph.agents
    seeing = [agent.name for agent in agents if "images" in pipeline.backends[agent.model].takes]
    return [f"images are shown to {', '.join(seeing)} only"] if 0 < len(seeing) < len(agents) else []


def refuse(exc: NotTaken, pipeline: Pipeline, conversation: Conversation, names: Mapping[str, str]) -> ApiError:
    """Turn the engine's refusal into an error with the protocol's parameter; `names` maps the names of chat fields."""
    if exc.model is not None:
        problem = f"model {exc.model!r}, which answers, does not take it"
        return bad(names.get(exc.what, exc.what), problem, "unsupported_parameter")
    problem = f"no model of {pipeline.settings.name!r} takes images"
    return bad(names.get(exc.what) or _first_image(conversation), problem, "unsupported_parameter")


def _first_image(conversation: Conversation) -> str:
    """The path of the first image in a chat's request."""
    return next(
        f"messages[{number}].content[{position}].image_url"
        for number, message in enumerate(conversation)
        for position, part in enumerate(message.parts)
        if isinstance(part, ImagePart)
    )
