"""The keys of each topology in a configuration. `graphs` makes graphs of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stairstream.config.models import SamplingKeys, names_of
from stairstream.config.policies import PolicyChoice
from stairstream.config.reading import Amount, Describes, Schema, Where, Whole, choose, read
from stairstream.core.edges import Edges
from stairstream.core.graph import Forward, Graph
from stairstream.core.session import AskedLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureKeys:
    """`topology: mixture`: proposers that answer first, and an aggregator that combines them."""

    proposers: tuple[str, ...]
    aggregator: str
    layers: Whole = 1
    proposer_sampling: SamplingKeys = field(default_factory=SamplingKeys)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfMixtureKeys:
    """`topology: self_mixture`: several samples of one model, which it combines itself."""

    model: str
    samples: Whole = 3
    temperatures: tuple[Amount, ...] = (0.7, 0.9, 1.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DebateKeys:
    """`topology: debate`: models that answer in rounds; then `judge` answers, or the debater of number `answer`."""

    debaters: tuple[str, ...]
    rounds: Whole = 2
    judge: str | None = None
    answer: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CouncilKeys:
    """`topology: council`: members answer, a judge compares them, one more model answers with all that."""

    members: tuple[str, ...]
    judge: str
    answer: str
    judge_json: bool = False
    judge_policy: PolicyChoice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """One agent of a `graph` or a `chain`; what it leaves out is as in its pipeline, or as its model has it."""

    model: str
    reads: tuple[str, ...] = ()
    instructions: str = ""
    policy: PolicyChoice | None = None
    layout: AskedLayout | None = None
    edges: Edges | None = None
    delimiter: str | None = None
    forward: Forward | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """An agent as a file describes it: its keys, and those of sampling among them."""

    keys: RoleKeys
    sampling: SamplingKeys

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "Role":
        """From one mapping with the keys of both."""
        keys = read(RoleKeys, raw, where, also=names_of(SamplingKeys))
        check_delimiter(keys.edges, keys.delimiter, where)
        return cls(keys=keys, sampling=read(SamplingKeys, raw, where, also=names_of(RoleKeys)))

    @classmethod
    def json_schema(cls, describes: Describes) -> Schema:
        """A mapping with the keys of both."""
        return describes.section(RoleKeys, SamplingKeys)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainKeys:
    """`topology: chain`: each agent reads the one before it; `models`, or `roles` in their order."""

    models: tuple[str, ...] | None = None
    roles: Mapping[str, Role] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeKeys:
    """`topology: tree`: leaves answer, each agent above combines its `branches`; of `depth` levels."""

    model: str
    depth: Whole = 2
    branches: Whole = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKeys:
    """`topology: graph`: agents and who reads whom; without `answer` the agent that no other reads answers."""

    agents: Mapping[str, Role]
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleKeys:
    """`topology: single`: one model as it is."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyKeys:
    """A graph that was made in Python; no file can say this."""

    graph: Graph


TopologyKeys = (
    MixtureKeys | SelfMixtureKeys | DebateKeys | CouncilKeys | ChainKeys | TreeKeys | GraphKeys | SingleKeys | ReadyKeys
)
TOPOLOGIES: dict[str, type[TopologyKeys]] = {
    "mixture": MixtureKeys,
    "self_mixture": SelfMixtureKeys,
    "debate": DebateKeys,
    "council": CouncilKeys,
    "chain": ChainKeys,
    "tree": TreeKeys,
    "graph": GraphKeys,
    "single": SingleKeys,
}


def roles_of(keys: TopologyKeys) -> Mapping[str, Role]:
    """The agents that the keys themselves describe, by name."""
    match keys:
        case GraphKeys():
            return keys.agents
        case ChainKeys():
            return keys.roles or {}
        case _:
            return {}


def check_delimiter(edges: Edges | None, delimiter: str | None, where: Where) -> None:
    """An error for a delimiter that would not be used, or that is none."""
    if delimiter == "":
        raise (where / "delimiter").error("is empty")
    if delimiter is not None and edges != "section":
        raise (where / "delimiter").error("is only used with edges: section; add that, or leave it out")


def check_topology(keys: TopologyKeys, models: Mapping[str, object], where: Where) -> None:
    """An error for a model or an agent that is not there, and for keys that do not go together."""
    match keys:
        case ChainKeys(models=None, roles=None) | ChainKeys(models=tuple(), roles=dict()):
            raise where.error("give either models or roles")
        case ChainKeys(roles=dict() as roles):
            for name, role in roles.items():
                if role.keys.reads:
                    raise (where / "roles" / name / "reads").error("in a chain each reads the one before; leave it out")
        case DebateKeys(judge=str(), answer=int()):
            raise (where / "answer").error("the judge answers; leave one of the two out")
        case GraphKeys():
            _check_readers(keys, where)
        case SelfMixtureKeys(temperatures=()):
            raise (where / "temperatures").error("is empty; give at least one")
        case _:
            pass
    for key in ("proposers", "debaters", "members", "models", "roles", "agents"):
        if getattr(keys, key, None) is not None and not getattr(keys, key):
            raise (where / key).error("is empty; give at least one")
    for path, model in named_models(keys):
        model_key = where
        for step in path:
            model_key = model_key / step
        choose(model, models, model_key, "a model")


def _check_readers(keys: GraphKeys, where: Where) -> None:
    for name, role in keys.agents.items():
        for number, upstream in enumerate(role.keys.reads):
            choose(upstream, keys.agents, where / "agents" / name / "reads" / number, "an agent")
    if keys.answer is not None:
        choose(keys.answer, keys.agents, where / "answer", "an agent")


def named_models(keys: TopologyKeys) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every model that the keys name, with the path to it."""
    for key in ("proposers", "debaters", "members", "models"):
        for number, model in enumerate(getattr(keys, key, None) or ()):
            yield (key, number), model
    for key in ("model", "aggregator", "judge"):
        if isinstance(model := getattr(keys, key, None), str):
            yield (key,), model
    if isinstance(keys, CouncilKeys):
        yield ("answer",), keys.answer
    for key in ("roles", "agents"):
        for name, role in (getattr(keys, key, None) or {}).items():
            yield (key, name, "model"), role.keys.model
    if isinstance(keys, ReadyKeys):
        for agent in keys.graph.agents:
            yield (agent.name, "model"), agent.model
            yield from (((agent.name, "fallbacks", number), name) for number, name in enumerate(agent.fallbacks))
