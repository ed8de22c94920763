"""The models of `stairstream init` by questions in a terminal. Everything is said on standard error."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import typer

from stairstream.backends.listing import Listed
from stairstream.cli.init.endpoints import list_of
from stairstream.cli.init.providers import PROVIDERS, Provider, check_complete, check_variable, find_provider
from stairstream.cli.init.writing import Chosen
from stairstream.cli.terminal import tell
from stairstream.core.errors import BackendError, ConfigError

T = TypeVar("T")
_MOST_SHOWN = 20


def choose_by_questions(environ: Mapping[str, str]) -> tuple[list[Chosen], int]:
    """The models that the user chooses, and the number of the one that answers."""
    tell("Where do your models run?")
    for number, provider in enumerate(PROVIDERS.values(), 1):
        tell(f"  {number}  {provider.title:<26}{provider.base_url}")
    tell("Numbers, or addresses as in http://127.0.0.1:8000/v1; several with spaces between them.")
    chosen = []
    for provider in _ask("endpoints", _read_providers):
        if "NAME" in provider.base_url:
            provider = _ask(f"address of your {provider.title}, as in {provider.base_url}", _read_address)
        variable = _ask_variable(provider, environ)
        for model in _choose_models(provider, variable, environ):
            chosen.append(Chosen(provider=provider, model=model, key_variable=variable))
    return chosen, _choose_aggregator(chosen)


def _ask(question: str, read: Callable[[str], T], default: str | None = None) -> T:
    """The answer as `read` takes it; what it refuses is said, and the question put again."""
    while True:
        answer = typer.prompt(question, default=default, show_default=bool(default), err=True)
        try:
            return read(str(answer).strip())
        except ConfigError as exc:
            tell(str(exc))


def _read_providers(answer: str) -> list[Provider]:
    """Those that numbers, names and addresses stand for, each once."""
    known = list(PROVIDERS.values())
    found = {}
    for word in answer.replace(",", " ").split():
        if word.isdecimal():
            if not 1 <= int(word) <= len(known):
                raise ConfigError(f"there is no number {word}")
            provider = known[int(word) - 1]
        else:
            provider = find_provider(word)
        found[provider.base_url] = provider
    if not found:
        raise ConfigError("name at least one")
    return list(found.values())


def _read_address(answer: str) -> Provider:
    return check_complete(find_provider(answer))


def _ask_variable(provider: Provider, environ: Mapping[str, str]) -> str | None:
    question = f"{provider.title}: environment variable with the key" + ("" if provider.key_variable else ", if any")
    if provider in PROVIDERS.values() and not provider.key_variable:
        return None
    variable = _ask(
        question, lambda answer: check_variable(answer, environ) if answer else "", provider.key_variable or ""
    )
    if variable and not environ.get(variable):
        tell(f"{variable} is not set; the file will name it, so set it before you use the file")
    return variable or None


def _choose_models(provider: Provider, key_variable: str | None, environ: Mapping[str, str]) -> Sequence[Listed]:
    if not provider.lists_models:
        return _ask("names of your deployments", _read_names)
    try:
        listed = list_of(provider, key_variable, environ)
    except (BackendError, ConfigError) as exc:
        tell(str(exc))
        return _ask("names of its models, as the endpoint knows them", _read_names)
    if not listed:
        tell(f"{provider.title} has no model so far")
        return _ask("names of the models that it will have", _read_names)
    return _pick(provider, listed)


def _read_names(answer: str) -> list[Listed]:
    if not answer:
        raise ConfigError("name at least one")
    return [Listed(name=name) for name in dict.fromkeys(answer.replace(",", " ").split())]


def _pick(provider: Provider, listed: Sequence[Listed]) -> list[Listed]:
    """Models by number or name, out of a list that a part of a name narrows; what is picked stays so meanwhile."""
    shown, picked = listed, dict[str, Listed]()
    while True:
        _show(provider, shown, listed)
        answer = str(typer.prompt("models (numbers, names, or a part of a name)", err=True))
        narrowed: Sequence[Listed] = ()  # asked again, out of these
        for word in answer.replace(",", " ").split():
            found = _find(word, shown[:_MOST_SHOWN], listed)
            if len(found) == 1:
                picked[found[0].name] = found[0]
            elif found:
                narrowed = found
            else:
                tell(f"no model has {word!r} in its name")
                narrowed = narrowed or shown
        if picked and not narrowed:
            return list(picked.values())
        if picked:
            tell(f"so far: {', '.join(picked)}")
        shown = narrowed or listed


def _show(provider: Provider, shown: Sequence[Listed], listed: Sequence[Listed]) -> None:
    """The first of the models with their numbers."""
    number_of_all = f"{provider.title} has {len(listed)} models"
    tell(number_of_all if shown is listed else f"{provider.title}: {len(shown)} of {len(listed)} models")
    for number, one in enumerate(shown[:_MOST_SHOWN], 1):
        tell(f"  {number:>2}  {one.name}")
    if len(shown) > _MOST_SHOWN:
        tell("  ... a part of a name shows those with it")


def _find(word: str, shown: Sequence[Listed], listed: Sequence[Listed]) -> Sequence[Listed]:
    """The model of that number or name, or all with that part in their names."""
    if word.isdecimal() and 1 <= int(word) <= len(shown):
        return (shown[int(word) - 1],)
    exact = [one for one in listed if one.name == word]
    return exact or [one for one in listed if word.lower() in one.name.lower()]


def _choose_aggregator(chosen: Sequence[Chosen]) -> int:
    if len(chosen) == 1:
        return 0
    tell("Which one reads the others and gives the answer? Usually the best of them.")
    for number, one in enumerate(chosen, 1):
        tell(f"  {number:>2}  {one.model.name}")

    def read(answer: str) -> int:
        if not (answer.isdecimal() and 1 <= int(answer) <= len(chosen)):
            raise ConfigError(f"give a number from 1 to {len(chosen)}")
        return int(answer) - 1

    return _ask("aggregator", read, "1")
