"""Multi-agent LLM answers whose first word comes long before the others have ended.

    answer = stairstream.ask("Why is the sky blue?")

asks the embedded model; `open_pipeline` asks the models of a configuration file, `open_run` any graph of agents, of
which `topologies` has some ready-made.
"""

TYPE_CHECKING = False  # typing's own, known to type checkers by its name: importing it takes longer than all of this

if TYPE_CHECKING:
    from stairstream.api import Answer as Answer
    from stairstream.api import ask as ask
    from stairstream.api import ask_async as ask_async
    from stairstream.api import open_pipeline as open_pipeline
    from stairstream.backends.scripted import Fault as Fault
    from stairstream.backends.scripted import Script as Script
    from stairstream.backends.scripted import ScriptedBackend as ScriptedBackend
    from stairstream.config.schema import load_config as load_config
    from stairstream.core import topologies as topologies
    from stairstream.core.errors import StairstreamError as StairstreamError
    from stairstream.core.events import Wrote as Wrote
    from stairstream.core.graph import Agent as Agent
    from stairstream.core.graph import Graph as Graph
    from stairstream.core.graph import Sampling as Sampling
    from stairstream.core.messages import Message as Message
    from stairstream.core.metrics import summarize as summarize
    from stairstream.core.policy import Policy as Policy
    from stairstream.core.topologies import mixture as mixture
    from stairstream.core.topologies import single as single
    from stairstream.engine.run import open_run as open_run

__version__ = "0.1.0"

# where each public name lives; a module is imported when one of its names is first used, so that this import is quick
_HOMES = {
    "Agent": "core.graph",
    "Answer": "api",
    "Fault": "backends.scripted",
    "Graph": "core.graph",
    "Message": "core.messages",
    "Policy": "core.policy",
    "Sampling": "core.graph",
    "Script": "backends.scripted",
    "ScriptedBackend": "backends.scripted",
    "StairstreamError": "core.errors",
    "Wrote": "core.events",
    "ask": "api",
    "ask_async": "api",
    "load_config": "config.schema",
    "mixture": "core.topologies",
    "open_pipeline": "api",
    "open_run": "engine.run",
    "single": "core.topologies",
    "summarize": "core.metrics",
    "topologies": "core.topologies",
}

__all__ = [
    "Agent",
    "Answer",
    "Fault",
    "Graph",
    "Message",
    "Policy",
    "Sampling",
    "Script",
    "ScriptedBackend",
    "StairstreamError",
    "Wrote",
    "ask",
    "ask_async",
    "load_config",
    "mixture",
    "open_pipeline",
    "open_run",
    "single",
    "summarize",
    "topologies",
]


if not TYPE_CHECKING:  # a type checker would take any name for good

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'stairstream' has no attribute {name!r}")
        from importlib import import_module

        home = import_module(f"stairstream.{_HOMES[name]}")
        value = home if _HOMES[name].endswith(f".{name}") else getattr(home, name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
