"""What a local model is known by where answers of it are kept: its name and its content, wherever it lies."""

import hashlib
from pathlib import Path

_KINDS = ("*.json", "*.safetensors", "*.model", "*.jinja")
"""What of a folder answers depend on: weights, how they are put together, the tokenizer, and its template."""


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
