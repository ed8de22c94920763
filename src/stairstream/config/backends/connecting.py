"""The parts of a configuration that all endpoints share, whatever their protocol."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from stairstream.config.reading import Where, show
from stairstream.core.urls import split_url

if TYPE_CHECKING:
    from stairstream.backends.capabilities import Capabilities
    from stairstream.backends.http import HttpPool
    from stairstream.config.build import Engines


async def connect(engines: "Engines") -> "tuple[HttpPool, Capabilities]":
    """The connections and the known capabilities that all endpoints of a process share."""

    async def make() -> "tuple[HttpPool, Capabilities]":
        from stairstream.backends.capabilities import Capabilities
        from stairstream.backends.http import HttpPool
        from stairstream.backends.models import models_folder

        pool = HttpPool()
        engines.close_later(pool.aclose)
        return pool, Capabilities(path=models_folder().parent / "capabilities.json")

    return await engines.share(connect, make)


def check_base_url(base_url: str, section: Mapping[str, object], where: Where) -> None:
    """Raises a ConfigError for what is no URL; it shows the key as it stands in the file."""
    if split_url(base_url) is None:
        shown = show(section["base_url"])
        raise (where / "base_url").error(f"must be a URL, as in http://127.0.0.1:8000/v1, not {shown}")
