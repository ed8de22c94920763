"""What a configuration may say: models, each on its backend, and pipelines. `build` makes things of it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from stairstream.backends.scripted import FaultKind
from stairstream.config.policies import read_policy
from stairstream.config.reading import (
    Amount,
    Bound,
    Seconds,
    Secret,
    Share,
    Where,
    Whole,
    check_keys,
    choose,
    mapping,
    nearest,
    read,
    show,
)
from stairstream.config.yaml_file import load_yaml, parse_yaml
from stairstream.core.errors import ConfigError
from stairstream.core.policy import PRESETS, Policy

_Count = Annotated[int, Bound(least=0)]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingKeys:
    """How a model chooses its tokens; None leaves it to whoever else may say."""

    max_tokens: Whole | None = None
    temperature: Amount | None = None
    top_p: Share | None = None
    seed: _Count | None = None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Money per million tokens, in whatever currency the file means; `cached` None: cached tokens cost as others."""

    prompt: Amount
    completion: Amount
    cached: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineKeys:
    """How long a call may be silent, before its first token and later, until it counts as failed; None: for ever."""

    first_token_s: Seconds | None = None
    gap_s: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonKeys:
    """What any model may have besides. `attempts`: calls in all where one fails before its first token."""

    attempts: Whole = 3
    deadlines: DeadlineKeys = DeadlineKeys()
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIKeys:
    """`backend: openai`: any endpoint with /chat/completions."""

    base_url: str
    model: str
    api_key: Annotated[str, Secret()] | None = field(default=None, repr=False)
    continues: Literal["auto", "flag", "prefill", "prefix", "none"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppKeys:
    """`backend: llamacpp`: embedded; `model` is a known name or the path of a GGUF file.

    `slots`: how many agents it serves at once, each with `context_tokens`; None: as many as one run needs.
    """

    model: str
    context_tokens: Whole | None = None
    threads: Whole | None = None
    slots: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchKeys:
    """`backend: torch`: in this process; `model` is a known name, a folder of transformers, or a GGUF file."""

    model: str
    dtype: Literal["float32", "bfloat16"] | None = None
    threads: Whole | None = None
    context_tokens: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKeys:
    """What goes wrong with a scripted model, in its first `calls` calls."""

    kind: FaultKind
    after_tokens: _Count = 0
    retry_after_s: Seconds | None = None
    calls: Whole | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedKeys:
    """`backend: scripted`: says `words`, or the words of `text`, or `length` numbered words, at given times."""

    words: tuple[str, ...] | None = None
    text: str | None = None
    length: Whole | None = None
    first_token_s: Seconds = 0.0
    token_s: Seconds = 0.0
    prefill_tokens_per_s: Annotated[float, Bound(least=1)] | None = None
    fault: FaultKeys | None = None


BackendKeys = OpenAIKeys | LlamaCppKeys | TorchKeys | ScriptedKeys
_BACKENDS: dict[str, type[BackendKeys]] = {
    "openai": OpenAIKeys,
    "llamacpp": LlamaCppKeys,
    "torch": TorchKeys,
    "scripted": ScriptedKeys,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One entry of `models`."""

    name: str
    keys: BackendKeys
    sampling: SamplingKeys
    common: CommonKeys

    @property
    def backend(self) -> str:
        """Its backend's name in the file."""
        return next(name for name, keys in _BACKENDS.items() if isinstance(self.keys, keys))

    @property
    def is_remote(self) -> bool:
        """Whether somebody else runs it, who may want money for it."""
        return isinstance(self.keys, OpenAIKeys)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureKeys:
    """`topology: mixture`: proposers that answer first, and an aggregator that combines them."""

    proposers: tuple[str, ...]
    aggregator: str
    layers: Whole = 1
    layout: Literal["insert", "grouped", "quoted", "rounds"] | None = None
    deadline_s: Seconds | None = None
    proposer_sampling: SamplingKeys = SamplingKeys()


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleKeys:
    """`topology: single`: one model as it is."""

    model: str
    deadline_s: Seconds | None = None


TopologyKeys = MixtureKeys | SingleKeys
_TOPOLOGIES: dict[str, type[TopologyKeys]] = {"mixture": MixtureKeys, "single": SingleKeys}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """One entry of `pipelines`; `policy_name` is the preset's name, or `custom`."""

    name: str
    keys: TopologyKeys
    policy: Policy
    policy_name: str

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it needs, each once."""
        match self.keys:
            case MixtureKeys():
                return tuple(dict.fromkeys((*self.keys.proposers, self.keys.aggregator)))
            case SingleKeys():
                return (self.keys.model,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration; `file` is its name for people."""

    file: str
    models: Mapping[str, ModelConfig]
    pipelines: Mapping[str, PipelineConfig]

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
    file = file or environ.get("STAIRSTREAM_CONFIG")
    if not file:
        return parse_config(DEFAULT, "the built-in configuration", environ)
    return read_config(load_yaml(Path(file), environ), str(file))


def parse_config(text: str, file: str, environ: Mapping[str, str] = os.environ) -> Config:
    """As load_config, from the text of a file."""
    return read_config(parse_yaml(text, file, environ), file)


DEFAULT = """\
models:
  smollm2:
    backend: llamacpp
    model: smollm2-135m-instruct
    max_tokens: 400
    temperature: 0
    seed: 1
pipelines:
  mix:
    topology: mixture
    proposers: [smollm2, smollm2, smollm2]
    aggregator: smollm2
    policy: balanced
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
    check_keys(section, ("models", "pipelines"), where)
    models = {name: _read_model(name, one, place) for name, one, place in _entries(section, "models", where)}
    pipelines = {
        name: _read_pipeline(name, one, place, models) for name, one, place in _entries(section, "pipelines", where)
    }
    return Config(file=file, models=models, pipelines=pipelines)


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


def _read_model(name: str, raw: object, where: Where) -> ModelConfig:
    section = mapping(raw, where)
    keys = _kind(section, "backend", _BACKENDS, where)
    names = ("backend", *_names(keys), *_names(SamplingKeys), *_names(CommonKeys))
    model = ModelConfig(
        name=name,
        keys=read(keys, section, where, also=names),
        sampling=read(SamplingKeys, section, where, also=names),
        common=read(CommonKeys, section, where, also=names),
    )
    _check_model(model.keys, section, where)
    return model


def _check_model(keys: BackendKeys, section: Mapping[str, object], where: Where) -> None:
    match keys:
        case OpenAIKeys() if not _is_url(keys.base_url):
            shown = show(section["base_url"])
            raise (where / "base_url").error(f"must be a URL, as in http://127.0.0.1:8000/v1, not {shown}")
        case ScriptedKeys():
            given = [one for one in ("words", "text", "length") if getattr(keys, one) is not None]
            if len(given) != 1:
                raise where.error(f"give one of words, text and length, not {' and '.join(given) or 'none'}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _read_pipeline(name: str, raw: object, where: Where, models: Mapping[str, ModelConfig]) -> PipelineConfig:
    section = mapping(raw, where)
    keys = read(_kind(section, "topology", _TOPOLOGIES, where), section, where, also=("topology", "policy"))
    policy, policy_name = PRESETS["balanced"], "balanced"
    match keys:
        case MixtureKeys():
            if not keys.proposers:
                raise (where / "proposers").error("is empty; give at least one model")
            for number, model in enumerate(keys.proposers):
                choose(model, models, where / "proposers" / number, "a model")
            choose(keys.aggregator, models, where / "aggregator", "a model")
            if section.get("policy") is not None:
                policy, policy_name = read_policy(section["policy"], where / "policy", len(keys.proposers))
        case SingleKeys():
            choose(keys.model, models, where / "model", "a model")
            if "policy" in section:
                raise (where / "policy").error("a single model reads nobody, so it has no policy; leave it out")
    return PipelineConfig(name=name, keys=keys, policy=policy, policy_name=policy_name)


def _kind(section: Mapping[str, object], key: str, kinds: Mapping[str, type[_T]], where: Where) -> type[_T]:
    if section.get(key) is None:
        raise (where / key).error(f"is missing{nearest('', kinds)}")
    return kinds[choose(section[key], kinds, where / key, f"a {key}")]


def _names(cls: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(cls))
