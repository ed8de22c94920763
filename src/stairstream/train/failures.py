"""Why a run ended before its time, and how it is continued.

TrainError
├── Diverged       the loss, the gradients or the weights are not finite
├── OutOfMemory    a train step needs more memory than there is
└── PeerLost       another rank ended, hangs, or can't be reached: EXIT_AGAIN
"""

from typing import Any

import torch
import torch.distributed as dist

from stairstream.core.errors import StairstreamError

EXIT_AGAIN = 75
"""The exit code that says: start the same command again, it continues. (EX_TEMPFAIL of sysexits.h)"""
HOW_TO_CONTINUE = "start the same command again, and the run continues from its last checkpoint"
SAY_LOST = f"another rank has ended or can't be reached; {HOW_TO_CONTINUE}"

_OF_PEERS = ("gloo", "nccl", "connection reset by peer", "connection closed by peer", "broken pipe")
_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


class TrainError(StairstreamError):
    """A run that could not continue."""


class Diverged(TrainError):
    """The loss, the gradients or the weights are not finite."""


class OutOfMemory(TrainError):
    """A train step needs more memory than there is."""


class PeerLost(TrainError):
    """Another rank ended, hangs, or can't be reached."""


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether memory ran out: a GPU's, or a CPU's, for which PyTorch has no class of its own."""
    if isinstance(exc, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(exc, RuntimeError) and any(words in str(exc).lower() for words in _OF_MEMORY)


def is_peer_lost(exc: BaseException) -> bool:
    """Whether something failed because another rank is not there; gloo raises a plain RuntimeError."""
    errors: Any = dist
    if isinstance(exc, errors.DistError):
        return True
    return isinstance(exc, RuntimeError) and any(words in str(exc).lower() for words in _OF_PEERS)
