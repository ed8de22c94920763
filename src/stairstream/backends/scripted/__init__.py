"""A backend that says given words at given times, and fails on demand: for tests, the simulator and the fake server.

Times are exact: every token has its instant, computed from the start of its call, on the running loop's clock.
"""

from stairstream.backends.scripted.backend import ScriptedBackend
from stairstream.backends.scripted.faults import Fault, FaultKind
from stairstream.backends.scripted.manner import ONE_BY_ONE, Cue, Manner, Reported
from stairstream.backends.scripted.script import Script
from stairstream.backends.scripted.session import Call, ScriptedSession
from stairstream.backends.scripted.speech import Speech
from stairstream.backends.scripted.words import count_cached, next_word, numbered_words, words_of

__all__ = [
    "ONE_BY_ONE",
    "Call",
    "Cue",
    "Fault",
    "FaultKind",
    "Manner",
    "Reported",
    "Script",
    "ScriptedBackend",
    "ScriptedSession",
    "Speech",
    "count_cached",
    "next_word",
    "numbered_words",
    "words_of",
]
