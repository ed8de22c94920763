"""Settings of a request that only some models know: handed to the answering model, or listed as ignored."""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from stairstream.api import Pipeline
from stairstream.core.options import RequestOptions
from stairstream.core.session import Setting
from stairstream.server.http.bodies import Fields

_NAMES: tuple[Setting, ...] = get_args(Setting)


def read_settings(fields: Fields) -> tuple[tuple[Setting, bytes], ...]:
    """The settings among the fields of a body, as they came."""
    return tuple((name, bytes(fields[name])) for name in _NAMES if name in fields)


def hand_over(
    options: RequestOptions, pipeline: Pipeline, names: Mapping[str, str]
) -> tuple[RequestOptions, list[str]]:
    """The options with the settings that the answering model takes, and the names of the others.

    `names` maps names of settings to the protocol's own.
    """
    if not options.settings:
        return options, []
    takes = pipeline.backends[pipeline.graph.agent(pipeline.graph.answer).model].takes
    taken = tuple(one for one in options.settings if one[0] in takes)
    others = [names.get(name, name) for name, _ in options.settings if name not in takes]
    return replace(options, settings=taken), others
