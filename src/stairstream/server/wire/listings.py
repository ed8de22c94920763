"""What else is asked for: models, runs, the server's health, and errors."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from stairstream.server.wire.outcome import StairstreamOut, UsageOut


class ModelAgent(Struct, frozen=True, kw_only=True):
    """An agent of a pipeline."""

    name: str
    model: str
    reads: list[str]


class ModelDetails(Struct, frozen=True, kw_only=True):
    """What a pipeline is."""

    topology: str
    policy: str
    answer: str
    agents: list[ModelAgent]
    max_tokens: int
    takes: Annotated[list[str], Meta(description="What the answering model takes besides text.")]


class ModelOut(Struct, frozen=True, kw_only=True):
    """A pipeline as a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    stairstream: ModelDetails


class ServerOut(Struct, frozen=True, kw_only=True):
    """What a server has besides."""

    history: Annotated[bool, Meta(description="Whether past runs are kept.")]


class ModelList(Struct, frozen=True, kw_only=True):
    """All pipelines."""

    object: Literal["list"]
    data: list[ModelOut]
    stairstream: ServerOut


class RunEvent(Struct, frozen=True, kw_only=True):
    """The data of one event of a run; what else it has depends on its type."""

    type: str
    at_s: float


class RunOut(Struct, frozen=True, kw_only=True):
    """A run, as it stands."""

    id: str
    object: Literal["run"]
    model: str
    status: Literal["running", "over"]
    answer: str
    num_events: int
    usage: UsageOut
    stairstream: StairstreamOut


class Status(Struct, frozen=True, kw_only=True):
    """How the server is."""

    status: str


class ErrorDetails(Struct, frozen=True, kw_only=True):
    """What is wrong: a line for people, and words for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct, frozen=True, kw_only=True):
    """An error, as the body of an answer or as an event of a stream."""

    error: ErrorDetails
