"""The keys of one pipeline in a configuration: its topology, how its agents read, and what bounds a run of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from stairstream.config.policies import ARGUMENTS, CUSTOM, PolicyChoice, PolicyPaths, override_policy
from stairstream.config.reading import Positive, Seconds
from stairstream.config.topologies import (
    ChainKeys,
    CouncilKeys,
    GraphKeys,
    ReadyKeys,
    Role,
    TopologyKeys,
    named_models,
)
from stairstream.core.edges import Edges
from stairstream.core.errors import ConfigError
from stairstream.core.graph import Agreement, Graph
from stairstream.core.policy import PRESETS, Policy
from stairstream.core.session import AskedLayout
from stairstream.core.wording import Labels, Wording
from stairstream.engine.pace import Pace

UsageScope = Literal["all", "answer"]
"""The agents whose tokens the `usage` of an answer counts: all, or the one that answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptKeys:
    """Other words for what agents are told about their references; None: those of the topology."""

    combine: str | None = None
    partial: str | None = None
    complete: str | None = None
    quote: str | None = None
    more: str | None = None
    labels: Labels | None = None

    def __post_init__(self) -> None:
        for name, held in (("quote", "{written}"), ("more", "{references}")):
            text = getattr(self, name)
            if text is not None and held not in text:
                raise ValueError(f"{name} must hold {held} where that text belongs")

    def override(self, wording: Wording) -> Wording:
        """The given wording, with each text that these keys set instead of its own."""
        return replace(wording, **{key: text for key, text in asdict(self).items() if text is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingKeys:
    """The way in which the agents of a pipeline read each other, unless one says otherwise.

    `stop_when`: upstream agents stop when enough of them say the same.
    """

    policy: PolicyChoice = field(default_factory=PolicyChoice)
    layout: AskedLayout | None = None
    edges: Edges = "token"
    delimiter: str | None = None
    stop_when: Agreement | None = None
    prompts: PromptKeys = field(default_factory=PromptKeys)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKeys:
    """The bounds of a run: its time, its cost by the models' prices, and the pace at which its answer is shown; None:
    `even` where the policy holds the answer back, else `raw`. `usage` is what a server's answers report. With `durable`
    a server writes its runs down, and another process continues those of one that is lost."""

    deadline_s: Seconds | None = None
    max_cost: Positive | None = None
    pace: Pace | None = None
    usage: UsageScope = "all"
    durable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """One entry of `pipelines`."""

    name: str
    keys: TopologyKeys
    reading: ReadingKeys = field(default_factory=ReadingKeys)
    limits: RunKeys = field(default_factory=RunKeys)

    @property
    def policy(self) -> Policy:
        """The policy that its agents read by, unless one has its own."""
        return self.reading.policy.policy

    @property
    def policy_name(self) -> str:
        """The name of that policy: a preset's, `adaptive`, its own, or `custom`."""
        return self.reading.policy.name

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it names, each once."""
        return tuple(dict.fromkeys(model for _, model in named_models(self.keys)))


def ready_pipeline(graph: Graph) -> PipelineConfig:
    """A pipeline of a graph that was made in Python."""
    policy = graph.agent(graph.answer).policy
    name = next((name for name, preset in PRESETS.items() if preset == policy), CUSTOM)
    reading = ReadingKeys(policy=PolicyChoice(policy=policy, name=name))
    return PipelineConfig(name="graph", keys=ReadyKeys(graph=graph), reading=reading)


def change_policy(
    pipeline: PipelineConfig,
    policy: Policy | str | None,
    numbers: Mapping[str, object],
    most_read: int,
    paths: PolicyPaths = ARGUMENTS,
) -> PipelineConfig:
    """The pipeline with another policy, or with some of its numbers changed; agents read up to `most_read` others.

    Another policy is that of every agent; changed numbers are those of the agents that have no policy of their own.
    """
    if policy is None and not numbers:
        return pipeline
    if not most_read:
        raise ConfigError(f"pipeline {pipeline.name!r} is a single model, which reads nobody: it takes no policy")
    choice = pipeline.reading.policy
    if isinstance(policy, Policy):
        choice, preset = PolicyChoice(policy=policy, name=CUSTOM), None
    else:
        preset = policy
    choice = override_policy(choice, preset, numbers, most_read, paths)
    keys = pipeline.keys
    if policy is not None or isinstance(keys, ReadyKeys):
        keys = _without_own_policies(keys, choice.policy)
    return replace(pipeline, keys=keys, reading=replace(pipeline.reading, policy=choice))


def _without_own_policies(keys: TopologyKeys, policy: Policy) -> TopologyKeys:
    match keys:
        case CouncilKeys():
            return replace(keys, judge_policy=None)
        case GraphKeys():
            return replace(keys, agents=_without_policies(keys.agents))
        case ChainKeys(roles=roles) if roles:
            return replace(keys, roles=_without_policies(roles))
        case ReadyKeys(graph=graph):
            agents = tuple(replace(agent, policy=policy) if agent.reads else agent for agent in graph.agents)
            return ReadyKeys(graph=replace(graph, agents=agents))
        case _:
            return keys


def _without_policies(roles: Mapping[str, Role]) -> Mapping[str, Role]:
    return {name: replace(role, keys=replace(role.keys, policy=None)) for name, role in roles.items()}
