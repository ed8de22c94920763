"""Steps of a GPU as captured graphs: one launch instead of hundreds. The one file that speaks CUDA's own language."""

from typing import Any

import torch

from stairstream.backends.torch.static import Recorder, Step


def make_capture() -> Recorder:
    """A recorder whose graphs share their memory: one is over before another begins."""
    cuda: Any = torch.cuda  # parts of it say nothing of their types
    pool = cuda.graph_pool_handle()

    def capture(step: Step) -> Step:
        stream = cuda.Stream()
        stream.wait_stream(cuda.current_stream())
        with cuda.stream(stream):  # libraries set themselves up at a first call, which must not be captured
            for _ in range(2):
                step()
        cuda.current_stream().wait_stream(stream)
        graph = cuda.CUDAGraph()
        # other threads may use the GPU meanwhile, for other models
        with cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = step()

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay

    return capture
