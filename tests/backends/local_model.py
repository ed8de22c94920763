"""The default model of the embedded llama.cpp, for the tests that need it."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from stairstream.backends.models import DEFAULT_MODEL, find_model, is_fetched


def llamacpp_model() -> Path:
    """The default model's file; skips the test where it or its engine is missing."""
    if find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp is not installed: pip install 'stairstream[local]'")
    if not is_fetched(DEFAULT_MODEL):
        pytest.skip("the model is not fetched: stairstream pull")
    return find_model(DEFAULT_MODEL)
