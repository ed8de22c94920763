"""Models of transformers, from a folder or from a GGUF file: network and tokenizer, to be run, trained or exported."""

from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from stairstream.backends.in_process.tokens import Tokens
from stairstream.core.errors import ConfigError, ModelUnusable

Dtype = Literal["float32", "bfloat16"]


def read_network(path: Path, dtype: Dtype) -> tuple[Any, Any]:
    """Network and tokenizer of a folder or a GGUF file, as transformers has them: to be trained or exported.

    Raises ConfigError if there is nothing to load, ModelUnusable if it can't be read.
    """
    return _read(*_where(path), dtype, path)


def read_tokens(path: Path) -> Tokens:
    """The tokenizer alone. Raises as read_network does."""
    where, options = _where(path)
    try:
        with redirect_stderr(StringIO()):
            tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as exc:
        raise ModelUnusable(
            f"transformers can't load the tokenizer of {path}: {str(exc).partition(chr(10))[0]}"
        ) from exc
    return Tokens(tokenizer, find_ends(None, tokenizer))


def read_config(path: Path) -> Any:
    """The configuration of transformers alone. Raises as read_network does."""
    where, options = _where(path)
    untyped: Any = AutoConfig
    try:
        return untyped.from_pretrained(where, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as exc:
        raise ModelUnusable(f"transformers can't load {path}: {str(exc).partition(chr(10))[0]}") from exc


def make_empty(config: Any) -> Any:
    """A network of that configuration, without memory for its weights. Raises ValueError if it is no language model."""
    untyped: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return untyped.from_config(config)


def _read(where: str, options: dict[str, Any], dtype: Dtype, path: Path) -> tuple[Any, Any]:
    quiet: Any = transformers.utils.logging
    quiet.disable_progress_bar()
    network: Any
    try:
        with redirect_stderr(StringIO()):  # the bars of a GGUF file can't be turned off
            network = AutoModelForCausalLM.from_pretrained(
                where, dtype=getattr(torch, dtype), local_files_only=True, **options, **_dense(options)
            )
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as exc:
        raise ModelUnusable(f"transformers can't load {path}: {str(exc).partition(chr(10))[0]}") from exc
    return network, tokenizer


def export(file: Path, folder: Path) -> None:
    """Make of a GGUF file a folder that other engines load too: weights in bfloat16, and the tokenizer.

    The folder is there whole or not at all. Raises OSError if it can't be written, ModelUnusable if the file is none.
    """
    where, options = _where(file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as scratch:
        made = Path(scratch) / folder.name
        network, tokenizer = _read(where, options, "bfloat16", file)
        if hasattr(network.config, "quantization_config"):
            del network.config.quantization_config  # the weights are not packed any more
        network.save_pretrained(made)
        tokenizer.save_pretrained(made)
        made.rename(folder)


def _where(path: Path) -> tuple[str, dict[str, Any]]:
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(f"there is no config.json in {path}; name a folder that transformers can load")
        return str(path), {}
    return str(path.parent), {"gguf_file": path.name}


def _dense(options: dict[str, Any]) -> dict[str, Any]:
    """Weights that stay packed, as newer versions of transformers leave them, are slow for a batch."""
    config: Any = getattr(transformers, "GgufConfig", None)
    return {"quantization_config": config(dequantize=True)} if options and config else {}


def find_ends(network: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer; without a network those that the tokenizer knows."""
    found: set[int] = set()
    known = (network.generation_config.eos_token_id, network.config.eos_token_id) if network is not None else ()
    for one in (*known, tokenizer.eos_token_id):
        if one is not None:
            found.update(one if isinstance(one, list) else [one])
    return frozenset(found)
