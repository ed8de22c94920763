"""Embedded llama.cpp: no server to start, any GGUF file, several agents at once."""

from stairstream.backends.llamacpp.backend import DEFAULT_SLOTS, LlamaCpp, LlamaCppBackend

__all__ = ["DEFAULT_SLOTS", "LlamaCpp", "LlamaCppBackend"]
