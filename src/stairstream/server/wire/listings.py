"""Shapes of models, runs, the server's health, and errors."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from stairstream.server.wire.outcome import StairstreamOut, UsageOut


class ModelAgent(Struct, frozen=True, kw_only=True):
    """An agent of a pipeline."""

    name: str
    model: str
    reads: list[str]


class ModelDetails(Struct, frozen=True, kw_only=True):
    """The parts of a pipeline."""

    topology: str
    policy: str
    answer: str
    agents: list[ModelAgent]
    max_tokens: int
    takes: Annotated[list[str], Meta(description="Input that the answering model takes besides text.")]
    settings: Annotated[list[str], Meta(description="Settings of a request that are handed to the answering model.")]


class ModelOut(Struct, frozen=True, kw_only=True):
    """A pipeline as a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    stairstream: ModelDetails


class ServerOut(Struct, frozen=True, kw_only=True):
    """Features of the server."""

    history: Annotated[bool, Meta(description="Whether past runs are kept.")]


class ModelList(Struct, frozen=True, kw_only=True):
    """All pipelines."""

    object: Literal["list"]
    data: list[ModelOut]
    stairstream: ServerOut


class RunEvent(Struct, frozen=True, kw_only=True):
    """The data of one event of a run; its other fields depend on its type."""

    type: str
    at_s: float


class RunOut(Struct, frozen=True, kw_only=True):
    """The state of a run."""

    id: str
    object: Literal["run"]
    model: str
    status: Literal["running", "over"]
    answer: str
    num_events: int
    usage: UsageOut
    stairstream: StairstreamOut


class Status(Struct, frozen=True, kw_only=True):
    """The state of the server."""

    status: str


class ErrorDetails(Struct, frozen=True, kw_only=True):
    """An error: a message for people, and words for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True, kw_only=True):
    """An error, as the body of an answer or as an event of a stream."""

    error: ErrorDetails
