"""Models in a vLLM engine of this process's own: token ids in and out, contexts that stay in its cache."""
