"""What models are known by where answers of theirs are kept; a local one by its name and content, wherever it lies."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from stairstream.config.models import ModelConfig, names_of

_KINDS = ("*.json", "*.safetensors", "*.model", "*.jinja")
"""What of a folder answers depend on: weights, how they are put together, the tokenizer, and its template."""


def identify_models(models: Mapping[str, ModelConfig], names: Sequence[str]) -> dict[str, object]:
    """What answers of models depend on besides their agents: their places, and what is in a local model's files.

    Never a key. Raises ConfigError for a local model that is not there.
    """
    return {name: _identify(models[name]) for name in sorted(names)}


def _identify(model: ModelConfig) -> object:
    keys = model.keys
    # what a repr must not hold is no part of what is answered; where a local model lies is none either
    local = _find_local(model)
    hidden = ("api_key", "cache_salt", *(("model",) if local else ()))
    shown = {name: getattr(keys, name) for name in names_of(type(keys)) if name not in hidden}
    return model.backend, shown, name_model(local) if local else None, model.common.forward


def _find_local(model: ModelConfig) -> Path | None:
    return model.kind.file(model.keys) if model.kind.file else None


def name_model(path: Path) -> str:
    """A file's or a folder's name with a digest of what is in it; takes as long as reading it once.

    A model that was trained again has another one.
    """
    if path.is_file():
        digest = _digest(path)
    else:
        files = sorted({file for kind in _KINDS for file in path.glob(kind)})
        listed = "".join(f"{file.name} {_digest(file)}\n" for file in files)
        digest = hashlib.sha256(listed.encode()).hexdigest()
    return f"{path.name}-{digest[:16]}"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
