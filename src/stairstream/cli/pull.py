"""`stairstream pull`: fetch a model file."""

from stairstream.backends.models import DEFAULT_MODEL
from stairstream.cli.terminal import fetch_with_bar


def pull(name: str | None) -> None:
    """Fetch a known model unless it is there; print where it is."""
    print(fetch_with_bar(name or DEFAULT_MODEL))
