"""A backend that says given words at given times, and fails on demand: for tests, the simulator and the fake server.

Times are exact: every token has its instant, computed from the start of its call, on the running loop's clock.
"""

from stairstream.backends.scripted.backend import ScriptedBackend
from stairstream.backends.scripted.faults import SILENT_FAULTS, Fault, FaultKind
from stairstream.backends.scripted.script import Script
from stairstream.backends.scripted.session import Call, ScriptedSession
from stairstream.backends.scripted.words import next_word, numbered_words, pieces_of, words_of

__all__ = [
    "SILENT_FAULTS",
    "Call",
    "Fault",
    "FaultKind",
    "Script",
    "ScriptedBackend",
    "ScriptedSession",
    "next_word",
    "numbered_words",
    "pieces_of",
    "words_of",
]
