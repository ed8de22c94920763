"""Multi-agent LLM answers that start as fast as a single model's."""

__version__ = "0.1.0"
