"""The models of `stairstream init` by its options, without a question."""

from collections.abc import Mapping, Sequence

from stairstream.backends.listing import Listed
from stairstream.cli.init.endpoints import list_of
from stairstream.cli.init.providers import Provider, check_complete, check_variable, find_provider
from stairstream.cli.init.writing import Chosen
from stairstream.cli.terminal import tell
from stairstream.config.reading import nearest
from stairstream.core.errors import BackendError, ConfigError

_MOST_SHOWN = 12


def choose_by_options(
    endpoints: Sequence[str], models: Sequence[str], key_variables: Sequence[str], environ: Mapping[str, str]
) -> list[Chosen]:
    """The models that the options name, or the only one that an endpoint lists. Raises ConfigError and BackendError."""
    endpoints = list(dict.fromkeys(endpoints))
    providers = {text: check_complete(find_provider(text)) for text in endpoints}
    models_of = _by_endpoint(models, endpoints, "--model")
    variables_of = _by_endpoint(key_variables, endpoints, "--key-variable")
    chosen = []
    for text, provider in providers.items():
        named = variables_of[text][-1:]
        variable = check_variable(named[0], environ) if named else provider.key_variable
        found = _choose(provider, models_of[text], variable, environ)
        chosen += [Chosen(provider=provider, model=one, key_variable=variable) for one in found]
    return chosen


def number_of(aggregator: str | None, chosen: Sequence[Chosen]) -> int:
    """The number of the model of that name; the first without one."""
    names = [one.model.name for one in chosen]
    if aggregator is None:
        return 0
    if aggregator not in names:
        raise ConfigError(f"--aggregator: {aggregator!r} is none of the models{nearest(aggregator, names)}")
    return names.index(aggregator)


def _by_endpoint(given: Sequence[str], endpoints: Sequence[str], option: str) -> dict[str, list[str]]:
    """Values as `ENDPOINT=VALUE`, or only `VALUE` where there is one endpoint."""
    found: dict[str, list[str]] = {text: [] for text in endpoints}
    for text in given:
        head, equals, value = text.partition("=")
        if equals and head in found:
            found[head].append(value)
        elif len(endpoints) == 1:
            found[endpoints[0]].append(text)
        else:
            raise ConfigError(f"{option}: with several endpoints write ENDPOINT=NAME, as in {endpoints[0]}=NAME")
    return found


def _choose(
    provider: Provider, names: Sequence[str], key_variable: str | None, environ: Mapping[str, str]
) -> list[Listed]:
    if not provider.lists_models:
        if not names:
            raise ConfigError(f"{provider.title} lists no models that can be asked; name yours by --model")
        return [Listed(name=name) for name in dict.fromkeys(names)]
    try:
        listed = {one.name: one for one in list_of(provider, key_variable, environ)}
    except BackendError as exc:
        if not names:
            raise
        tell(f"{exc}; the models are taken as they are named")
        return [Listed(name=name) for name in dict.fromkeys(names)]
    if not names:
        return [_only(provider, listed)]
    for name in names:
        if name not in listed:
            tell(
                f"{provider.title} does not list {name!r}{nearest(name, listed) if len(listed) <= _MOST_SHOWN else ''}"
            )
    return [listed.get(name, Listed(name=name)) for name in dict.fromkeys(names)]


def _only(provider: Provider, listed: Mapping[str, Listed]) -> Listed:
    if not listed:
        raise ConfigError(f"{provider.title} has no model; add one to it, or name one by --model")
    if len(listed) > 1:
        names = list(listed)
        more = ", ..." if len(names) > _MOST_SHOWN else ""
        raise ConfigError(
            f"{provider.title} has {len(names)} models; choose by --model: {', '.join(names[:_MOST_SHOWN])}{more}"
        )
    return next(iter(listed.values()))
