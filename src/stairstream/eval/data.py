"""The recorded data that evaluations use by default, and the systems in it."""

from pathlib import Path

DATA_FOLDER = Path("../shared/data")
"""Folder of the data, next to a checkout; it is not part of the project."""
ALPACA_OUTPUTS = DATA_FOLDER / "alpaca_eval_outputs.jsonl.gz"
GSM8K = DATA_FOLDER / "gsm8k_test.jsonl.gz"
PROPOSERS = ("Meta-Llama-3-70B-Instruct", "Qwen2-72B-Instruct", "Mixtral-8x22B-Instruct-v0.1")
REFERENCE = "Together-MoA-Lite"
"""Systems in ALPACA_OUTPUTS: three single models (PROPOSERS) and a mixture (REFERENCE)."""
