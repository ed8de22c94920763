"""Identities of models, part of the key under which their answers are kept: a local model's is its name and a digest
of its files, wherever they are."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from stairstream.config.models import ModelConfig, names_of

_KINDS = ("*.json", "*.safetensors", "*.model", "*.jinja")
"""Files of a model folder that its answers depend on: weights, configuration, tokenizer and chat template."""


def identify_models(models: Mapping[str, ModelConfig], names: Sequence[str]) -> dict[str, object]:
    """Identities of models by name: backend, endpoint and settings, and for a local model a digest of its files.

    Holds no API key. Raises ConfigError for a local model that is missing.
    """
    return {name: _identify(models[name]) for name in sorted(names)}


def _identify(model: ModelConfig) -> object:
    keys = model.keys
    # secrets do not change an answer, and neither do the paths of a local model
    local = model.files
    hidden = ("api_key", "cache_salt", *local)
    shown = {name: getattr(keys, name) for name in names_of(type(keys)) if name not in hidden}
    return model.backend, shown, {key: name_model(path) for key, path in local.items()}, model.common.forward


def name_model(path: Path) -> str:
    """The name of a file or folder with a digest of its content; takes as long as reading it once.

    Training a model again changes its digest.
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
