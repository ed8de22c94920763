"""Checks, without loading it, whether a file is a GGUF file."""

import struct
from pathlib import Path

from stairstream.core.errors import ConfigError, ModelUnusable

_MAGIC = b"GGUF"
_OLDEST_VERSION, _NEWEST_VERSION = 2, 3


def check_gguf(path: Path) -> None:
    """Return if `path` looks like a model that llama.cpp can load.

    Raises ConfigError if there is no such file, ModelUnusable if what is there is not a GGUF.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a directory; name the GGUF file in it")
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except FileNotFoundError:
        raise ConfigError(f"there is no model file {path}; check the path") from None
    except OSError as exc:
        raise ConfigError(f"cannot read the model file {path}: {exc.strerror}") from exc
    if head[:4] != _MAGIC:
        raise ModelUnusable(f"{path} is not a GGUF file (it begins with {head[:4]!r}); llama.cpp loads no other kind")
    if len(head) < 24:
        raise ModelUnusable(f"{path} is cut short after {len(head)} bytes; fetch it again")
    version, num_tensors, _ = struct.unpack_from("<IQQ", head, 4)
    if not _OLDEST_VERSION <= version <= _NEWEST_VERSION:
        raise ModelUnusable(
            f"{path} is GGUF version {version}; llama.cpp reads {_OLDEST_VERSION} and {_NEWEST_VERSION}"
        )
    if num_tensors == 0:
        raise ModelUnusable(f"{path} holds no weights, only a vocabulary; name a whole model")
