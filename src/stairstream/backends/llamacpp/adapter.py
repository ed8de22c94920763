"""A low-rank adapter (LoRA), as peft writes it, as a GGUF file that llama.cpp adds to a model when it is loaded."""

import importlib
from pathlib import Path
from typing import Any

from stairstream.backends.gguf_weights import Arrangement, import_gguf
from stairstream.backends.lora import WEIGHTS, Lora
from stairstream.core.errors import ConfigError, MissingExtra


def write_adapter(folder: Path, base: Path, room: Path) -> Path:
    """Write the adapter in `folder`, for the model in the GGUF file `base`, into the folder `room`; returns the file.

    Blocks. Raises ConfigError if it can't be read or belongs to another model, ModelUnusable for an architecture that
    is not known here, MissingExtra.
    """
    gguf = import_gguf()
    lora = Lora.read(folder)
    reader = gguf.GGUFReader(base)
    arrangement = Arrangement(gguf, reader, base)
    shapes = {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in reader.tensors}
    file = room / "adapter.gguf"
    writer = gguf.GGUFWriter(file, arrangement.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, lora.scale * lora.rank)  # llama.cpp divides it by the rank
    found = _read_weights(folder / WEIGHTS)
    for theirs, (down, up) in lora.pair(found, lambda theirs: shapes.get(arrangement.name(theirs) or "")).items():
        name = arrangement.name(theirs)
        assert name is not None
        writer.add_tensor(f"{name}.lora_a", down)
        writer.add_tensor(f"{name}.lora_b", arrangement.arrange(name, up).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _read_weights(file: Path) -> dict[str, Any]:
    """The arrays in a file of safetensors by their names, in float32; numpy alone knows no bfloat16."""
    try:
        safetensors: Any = importlib.import_module("safetensors")
    except ImportError:
        raise MissingExtra("safetensors is not installed; install it with: pip install safetensors") from None
    numpy: Any = importlib.import_module("numpy")
    try:
        found = safetensors.deserialize(file.read_bytes())
    except (OSError, safetensors.SafetensorError) as exc:
        raise ConfigError(f"adapter: {file} can't be read: {exc}") from exc
    arrays = {}
    for name, tensor in found:
        match tensor["dtype"]:
            case "BF16":
                halves = numpy.frombuffer(tensor["data"], dtype="<u2").astype("<u4") << 16
                array = halves.view("<f4")
            case "F16" | "F32" as kind:
                array = numpy.frombuffer(tensor["data"], dtype="<f2" if kind == "F16" else "<f4").astype("<f4")
            case kind:
                raise ConfigError(f"adapter: {file} has weights of type {kind}; they can be F32, F16 or BF16")
        arrays[name] = array.reshape(tensor["shape"])
    return arrays
