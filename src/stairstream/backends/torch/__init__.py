"""Models of transformers in this process, behind sessions whose KV cache can open a gap. Needs the extra `torch`."""
