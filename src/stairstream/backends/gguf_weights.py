"""Weights of transformers as a GGUF file has them: their names, and the order of their rows."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from stairstream.core.errors import MissingExtra, ModelUnusable

_HEADS = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}
_SHUFFLED, _PLAIN = ("llama",), ("qwen2", "qwen3")


def import_gguf() -> Any:
    """The library that reads and writes GGUF files. Raises MissingExtra."""
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise MissingExtra("gguf is not installed; install it with: pip install gguf") from None


class Arrangement:
    """How the weights of one GGUF file are named and arranged, told from those of transformers."""

    def __init__(self, gguf: Any, reader: Any, path: object) -> None:
        """Raises ModelUnusable for an architecture whose weights are arranged in a way that is not known here."""
        self._fields: Mapping[str, Any] = reader.fields
        self.architecture = arch = str(self._read("general.architecture"))
        if arch not in (*_SHUFFLED, *_PLAIN):
            raise ModelUnusable(f"{path} is of the architecture {arch}, whose weights can't be written here")
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], int(self._read(f"{arch}.block_count")))
        self.name: Callable[[str], str | None] = lambda name: names.get_name(name, try_suffixes=(".weight", ".bias"))

    def _read(self, name: str) -> Any:
        return self._fields[name].contents()

    def arrange(self, name: str, weight: Any) -> Any:
        """A weight (a tensor or an array of [rows, ...]), `name` as in the file, with its rows in the file's order.

        llama.cpp has both halves of a head of queries and keys in turn, where transformers has one after the other
        (`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py).
        """
        part = name.split(".")[-2]
        if self.architecture not in _SHUFFLED or part not in _HEADS:
            return weight
        heads = int(self._read(f"{self.architecture}.{_HEADS[part]}"))
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)
