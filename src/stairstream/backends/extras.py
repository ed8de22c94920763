"""Packages that only some users need."""

from collections.abc import Iterable
from importlib.util import find_spec

from stairstream.core.errors import MissingExtra


def require(what: str, packages: Iterable[str], extra: str) -> None:
    """Raises MissingExtra, with how to install it, for the first package that is not there; imports none of them."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(f"{what} needs {package}; install it with: pip install 'stairstream[{extra}]'")
