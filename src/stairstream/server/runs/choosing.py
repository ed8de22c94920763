"""Chooses a request's pipeline and policy: by its `model`, changed by its object `stairstream`."""

from collections.abc import Sequence

from stairstream.api import Pipeline
from stairstream.config.graphs import build_graph
from stairstream.config.pipelines import PipelineConfig
from stairstream.config.policies import NUMBERS, own_policy
from stairstream.config.reading import Where, check_keys, nearest
from stairstream.config.topologies import SingleKeys
from stairstream.core.errors import ConfigError
from stairstream.core.policy import Policy
from stairstream.server.errors import ApiError, bad
from stairstream.server.http.bodies import MOST_KEYS, Fields, TooManyKeys, read_keys
from stairstream.server.runs.catalog import Catalog
from stairstream.server.runs.fusion import FUSION, fuse
from stairstream.server.wire.options import Plugin, PolicyNumbers, StairstreamOptions

SINGLE = "single"
"""A suffix of a pipeline's name, in place of a policy: `mix:single`."""

_OPTIONS = StairstreamOptions.__struct_fields__
_NO_OPTIONS = StairstreamOptions()


def read_options(given: StairstreamOptions | None, fields: Fields) -> StairstreamOptions:
    """The object `stairstream` of a request; ApiError for an unknown key."""
    raw = fields.get("stairstream")
    if raw is not None:
        try:
            options = read_keys(raw)
            check_keys(options, _OPTIONS, Where(file=""))
            if isinstance(given and given.policy, PolicyNumbers):
                check_keys(read_keys(options["policy"]), NUMBERS, Where(file="", path="policy"))
        except ConfigError as exc:
            raise _as_api_error(exc) from None
        except TooManyKeys:
            raise bad("stairstream", f"has more than {MOST_KEYS} keys in one object") from None
    return given or _NO_OPTIONS


def _as_api_error(exc: ConfigError) -> ApiError:
    """Turn an error of the configuration's checks, which begins with the key, into one about `stairstream`."""
    key, _, problem = str(exc).partition(": ")
    if not problem or " " in key:
        return bad("stairstream", str(exc))
    return bad(f"stairstream.{key}", problem)


def choose_pipeline(
    model: str, options: StairstreamOptions, catalog: Catalog, plugins: Sequence[Plugin] = ()
) -> Pipeline:
    """The pipeline that the request names or describes, with the request's policy."""
    name, has_preset, preset = model.partition(":")
    for plugin in plugins:
        if plugin.id == FUSION and plugin.enabled is not False:
            fused = fuse(plugin, name, catalog)
            is_ours = has_preset and (name in catalog.backends or name in catalog.pipelines)
            return _with_options(_with_preset(fused, preset, options) if is_ours else fused, options)
    pipeline = catalog.pipelines.get(name)
    if pipeline is None:
        message = f"model: no pipeline is called {name[:80]!r}{nearest(name, catalog.pipelines)}"
        raise ApiError(status=404, message=message, param="model", code="model_not_found")
    if not has_preset:
        return _with_options(pipeline, options)
    if preset == SINGLE:
        return _with_options(_single_of(pipeline, catalog), options)
    return _with_options(_with_preset(pipeline, preset, options), options)


def _single_of(pipeline: Pipeline, catalog: Catalog) -> Pipeline:
    """A pipeline of the answering model alone, within the same limits."""
    graph = pipeline.graph
    keys = SingleKeys(model=graph.agent(graph.answer).model)
    settings = PipelineConfig(name=f"{pipeline.settings.name}:{SINGLE}", keys=keys, limits=pipeline.settings.limits)
    return Pipeline(settings, build_graph(catalog.config.models, settings), catalog.backends, catalog.config)


def _with_preset(pipeline: Pipeline, preset: str, options: StairstreamOptions) -> Pipeline:
    """The pipeline with the policy that follows its name."""
    if options.policy is not None:
        raise bad("stairstream.policy", f"model already says {preset[:80]!r}; leave one of the two out")
    try:
        return pipeline.with_policy(preset)
    except ConfigError as exc:
        raise bad("model", str(exc).removeprefix("policy: ")) from None


def _with_options(pipeline: Pipeline, options: StairstreamOptions) -> Pipeline:
    numbers = _numbers_of(options)
    if options.policy is None and not numbers:
        return pipeline
    try:
        return pipeline.with_policy(_read_policy(options), numbers)
    except ConfigError as exc:
        raise _as_api_error(exc) from None


def _read_policy(options: StairstreamOptions) -> Policy | str | None:
    if isinstance(options.policy, PolicyNumbers):
        return own_policy(_numbers_of(options.policy), Where(file="", path="policy"))
    return options.policy


def _numbers_of(section: PolicyNumbers | StairstreamOptions) -> dict[str, object]:
    return {name: value for name in NUMBERS if (value := getattr(section, name)) is not None}
