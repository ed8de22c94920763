"""The process that holds llama.cpp: run as a script by `server.py`, never imported.

It reads one line of JSON settings, answers one line of JSON on its standard output, and lives until its input closes:
however the parent ends, this ends too.
"""

import json
import os
import sys
from typing import Any


def main() -> None:
    """Load the model, say where it listens or what is wrong, wait for the end."""
    settings = json.loads(sys.stdin.readline())
    with os.fdopen(os.dup(1), "w") as parent:
        os.dup2(2, 1)  # llama.cpp may print; the parent reads only our line
        try:
            server = _serve(settings)
        except (RuntimeError, ValueError, MemoryError) as exc:
            print(json.dumps({"error": " ".join(str(exc).split())}), file=parent, flush=True)
            return
        print(json.dumps({"url": server.listening_address}), file=parent, flush=True)
    sys.stdin.read()
    os._exit(0)  # nothing to save; tearing down in order would only take time


def _serve(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    if settings["adapter"] is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(settings["adapter"])]
    params.n_ctx = settings["context_tokens"] * settings["slots"]
    params.n_parallel = settings["slots"]
    params.n_batch = params.n_ubatch = settings["batch_tokens"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.n_threads_http = settings["slots"] + 4  # one per stream, and some for short questions
    params.api_keys = [settings["api_key"]]
    params.verbosity = settings["verbosity"]
    params.fit_params = False
    params.ui = False
    params.cache_ram_mib = 0  # a slot's own cache is enough; copies of it in memory cost time and gigabytes
    params.cache_idle_slots = False
    if settings["drafts_ngrams"]:
        kind = xllamacpp.common_speculative_type.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE
        params.speculative.types = [kind]
        params.speculative.ngram_simple.size_n = settings["ngram_tokens"]
        params.speculative.ngram_simple.size_m = settings["draft_tokens"]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
