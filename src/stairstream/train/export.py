"""Trained weights as others load them: a folder of transformers, and a GGUF file for llama.cpp."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from stairstream.backends.gguf_weights import Arrangement, import_gguf
from stairstream.core.errors import ConfigError
from stairstream.train.config import Precision

Weights = Mapping[str, Tensor]


def export_folder(
    network: Any, tokenizer: Any, weights: Weights, folder: Path, precision: Precision, note: str | None = None
) -> None:
    """A folder for transformers and vLLM, weights in a precision; there whole or as it was before. `note`: its
    README.md."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    tied = (getattr(network, "_tied_weights_keys", None) or ()) if network.config.tie_word_embeddings else ()
    rounded = {name: weight.to(getattr(torch, precision)) for name, weight in weights.items() if name not in tied}
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as room:
        made = Path(room) / folder.name
        if hasattr(network.config, "quantization_config"):
            del network.config.quantization_config  # of the file that it was read from
        network.save_pretrained(made, state_dict=rounded)
        tokenizer.save_pretrained(made)
        _say_type(made / "config.json", precision)
        if note is not None:
            (made / "README.md").write_text(f"{note}\n")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _say_type(file: Path, precision: Precision) -> None:
    """The network that was trained had weights of another type than those that were written."""
    text = file.read_text()
    file.write_text(text.replace('"dtype": "float32"', f'"dtype": "{precision}"'))


def export_gguf(like: Path, weights: Weights, file: Path) -> None:
    """A GGUF file with everything of another one, and these weights in float16.

    Raises ModelUnusable for an architecture whose weights are arranged in a way that is not known here, ConfigError if
    the other file is of another model.
    """
    gguf = import_gguf()
    reader = gguf.GGUFReader(like)
    arrangement = Arrangement(gguf, reader, like)
    found = {arrangement.name(name): weight for name, weight in weights.items()}
    part = file.with_name(f"{file.name}.part")
    writer = gguf.GGUFWriter(part, arrangement.architecture)
    _copy_keys(gguf, reader, writer)
    for tensor in reader.tensors:
        weight = found.get(tensor.name)
        if weight is None or list(weight.shape) != [int(size) for size in reversed(tensor.shape)]:
            raise ConfigError(f"{like} is of another model: {tensor.name} is not there, or of another shape")
        arranged = arrangement.arrange(tensor.name, weight)
        small = arranged.float() if weight.dim() < 2 else arranged.to(torch.float16)
        writer.add_tensor(tensor.name, small.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(file)


def _copy_keys(gguf: Any, reader: Any, writer: Any) -> None:
    is_array: Callable[[Any], bool] = lambda field: field.types[0] == gguf.GGUFValueType.ARRAY  # noqa: E731
    for field in reader.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue  # the writer's own
        value = int(gguf.LlamaFileType.MOSTLY_F16) if field.name == "general.file_type" else field.contents()
        sub_type = field.types[-1] if is_array(field) else None
        writer.add_key_value(field.name, value, field.types[0], sub_type=sub_type)
