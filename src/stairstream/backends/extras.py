"""Packages that only some users need."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from stairstream.core.errors import MissingExtra


def require(what: str, packages: Iterable[str], extra: str) -> None:
    """Raises MissingExtra, with how to install it, if a package is not there; imports none of them."""
    require_all(what, {extra: packages})


def require_all(what: str, wanted: Mapping[str, Iterable[str]]) -> None:
    """As require, for the packages of several extras: one error names all that are not there."""
    missing = {extra: [name for name in packages if find_spec(name) is None] for extra, packages in wanted.items()}
    names = [name for some in missing.values() for name in some]
    if names:
        extras = ",".join(extra for extra, some in missing.items() if some)
        listed = " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
        them = "it" if len(names) == 1 else "them"
        raise MissingExtra(f"{what} needs {listed}; install {them} with: pip install 'stairstream[{extras}]'")
