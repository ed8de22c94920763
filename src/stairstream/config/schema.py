"""A whole configuration file: models, pipelines of them, and the server. `build` makes things of it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stairstream.config.graphs import build_graph, models_of
from stairstream.config.models import ModelConfig, check_fallbacks, choose_kind, names_of, read_model
from stairstream.config.pipelines import PipelineConfig, ReadingKeys, RunKeys
from stairstream.config.policies import PolicyChoice, check_quorum
from stairstream.config.reading import Where, check_keys, mapping, nearest, read
from stairstream.config.server import ServerConfig
from stairstream.config.topologies import (
    TOPOLOGIES,
    ChainKeys,
    CouncilKeys,
    GraphKeys,
    SingleKeys,
    TopologyKeys,
    check_delimiter,
    check_topology,
    roles_of,
)
from stairstream.config.yaml_file import parse_yaml, read_text
from stairstream.core.errors import ConfigError, GraphError
from stairstream.core.graph import Graph

BUILT_IN = "the built-in configuration"
"""The name of a configuration without a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration; `file` is its name for people."""

    file: str
    models: Mapping[str, ModelConfig]
    pipelines: Mapping[str, PipelineConfig]
    server: ServerConfig = field(default_factory=ServerConfig)

    @property
    def is_built_in(self) -> bool:
        """Whether it came without a file: the embedded model."""
        return self.file == BUILT_IN

    def pipeline(self, name: str | None = None) -> PipelineConfig:
        """The pipeline of that name, or the first of the file; ConfigError if there is none."""
        if name is None:
            return next(iter(self.pipelines.values()))
        if name not in self.pipelines:
            raise ConfigError(f"{self.file}: no pipeline is called {name!r}{nearest(name, self.pipelines)}")
        return self.pipelines[name]


def load_config(file: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in a YAML file. Raises ConfigError with file, key and what to do.

    None takes the file that the environment variable STAIRSTREAM_CONFIG names, else the built-in configuration.
    """
    return parse_config(*read_source(file, environ), environ)


def read_source(file: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The text of the configuration that load_config would read, and its name for people."""
    file = file or environ.get("STAIRSTREAM_CONFIG")
    return (read_text(Path(file)), str(file)) if file else (DEFAULT, BUILT_IN)


def parse_config(text: str, file: str, environ: Mapping[str, str] = os.environ) -> Config:
    """As load_config, from the text of a file."""
    return read_config(parse_yaml(text, file, environ), file)


# a laptop prefills slowly: growth 4 sends less again than `balanced` does, and a model of this size repeats itself at 0
DEFAULT = """\
models:
  smollm2:
    backend: llamacpp
    model: smollm2-135m-instruct
    max_tokens: 200
    temperature: 0.3
    repetition_penalty: 1.1
    seed: 1
pipelines:
  mix:
    topology: mixture
    proposers: [smollm2, smollm2, smollm2]
    aggregator: smollm2
    policy: {name: laptop, first_chunk: 16, growth: 4, quorum: most, patience_s: 0.25, lead: inf}
    proposer_sampling: {temperature: 0.8, top_p: 0.95}
  single:
    topology: single
    model: smollm2
"""


def read_config(raw: object, file: str) -> Config:
    """A configuration from plain values."""
    where = Where(file=file)
    if raw is None:
        raise where.error("is empty; it needs `models` and `pipelines`")
    section = mapping(raw, where)
    check_keys(section, ("models", "pipelines", "server"), where)
    models = {name: read_model(name, one, key) for name, one, key in _entries(section, "models", where)}
    for name, model in models.items():
        check_fallbacks(model, models, where / "models" / name)
    pipelines = {
        name: _read_pipeline(name, one, key, models) for name, one, key in _entries(section, "pipelines", where)
    }
    server = {} if section.get("server") is None else section["server"]
    settings = read(ServerConfig, server, where / "server")
    return Config(file=file, models=models, pipelines=pipelines, server=settings)


def _entries(section: Mapping[str, object], key: str, where: Where) -> Iterable[tuple[str, object, Where]]:
    if section.get(key) is None:
        raise (where / key).error("is missing")
    entries = mapping(section[key], where / key)
    if not entries:
        raise (where / key).error("is empty; give at least one")
    for name, one in entries.items():
        if not name.strip():
            raise (where / key).error("a name is empty")
        yield name, one, where / key / name


def _read_pipeline(name: str, raw: object, where: Where, models: Mapping[str, ModelConfig]) -> PipelineConfig:
    """One entry of `pipelines`; that its graph can run is checked here too."""
    if ":" in name:
        raise where.error("a pipeline's name may not hold ':', after which a request names a policy; use another sign")
    section = mapping(raw, where)
    kind = choose_kind(section, "topology", TOPOLOGIES, where)
    if kind is SingleKeys:
        for key in names_of(ReadingKeys):
            if key in section:
                raise (where / key).error(f"a single model reads nobody, so it has no {key}; leave it out")
    names = ("topology", *(name for part in pipeline_parts(kind) for name in names_of(part)))
    pipeline = PipelineConfig(
        name=name,
        keys=read(kind, section, where, also=names),
        reading=read(ReadingKeys, section, where, also=names),
        limits=read(RunKeys, section, where, also=names),
    )
    check_topology(pipeline.keys, models, where)
    check_delimiter(pipeline.reading.edges, pipeline.reading.delimiter, where)
    try:
        graph = build_graph(models, pipeline)
    except GraphError as exc:
        raise where.error(str(exc)) from None
    _check_numbers(pipeline, graph, where)
    _check_prices(pipeline, graph, models, where)
    return pipeline


def pipeline_parts(kind: type[TopologyKeys]) -> tuple[type, ...]:
    """The dataclasses whose keys an entry of `pipelines` may have, besides `topology`."""
    return (kind, RunKeys) if kind is SingleKeys else (kind, ReadingKeys, RunKeys)


def _check_numbers(pipeline: PipelineConfig, graph: Graph, where: Where) -> None:
    """Checks that no agent waits for more agents than it reads."""
    most_read = max(len(agent.reads) for agent in graph.agents)
    check_quorum(pipeline.policy, most_read, where / "policy" / "quorum")
    agreement = pipeline.reading.stop_when
    if agreement and agreement.agree > most_read:
        raise (where / "stop_when" / "agree").error(f"{agreement.agree} is more than an agent reads here ({most_read})")
    match pipeline.keys:
        case CouncilKeys(judge_policy=PolicyChoice(policy=policy), members=members):
            check_quorum(policy, len(members), where / "judge_policy" / "quorum")
        case GraphKeys() | ChainKeys():
            path = "agents" if isinstance(pipeline.keys, GraphKeys) else "roles"
            for name, role in roles_of(pipeline.keys).items():
                if role.keys.policy and graph.agent(name).reads:
                    key = where / path / name / "policy" / "quorum"
                    check_quorum(role.keys.policy.policy, len(graph.agent(name).reads), key)
        case _:
            pass


def _check_prices(pipeline: PipelineConfig, graph: Graph, models: Mapping[str, ModelConfig], where: Where) -> None:
    if pipeline.limits.max_cost is None:
        return
    named = [models[name] for name in models_of(graph)]
    unpriced = [model.name for model in named if model.common.price is None]
    if len(unpriced) < len(named):  # those that run here are free
        unpriced = [name for name in unpriced if models[name].is_remote]
    if unpriced:
        raise (where / "max_cost").error(
            f"model {unpriced[0]!r} has no price, so its cost can't be bounded; give it one"
        )
