"""Multi-agent LLM answers whose first word comes long before the others have ended.

    answer = stairstream.ask("Why is the sky blue?")

asks the embedded model, and `stream` gives its words as they come. `open_pipeline` asks the models of a configuration
file, `open_run` any graph of agents, of which `topologies` has some ready-made.
"""

TYPE_CHECKING = False  # typing's own, known to type checkers by its name: importing it takes longer than all of this

if TYPE_CHECKING:
    from stairstream.answer import Answer as Answer
    from stairstream.api import open_pipeline as open_pipeline
    from stairstream.api import open_run as open_run
    from stairstream.backends.scripted import Fault as Fault
    from stairstream.backends.scripted import Script as Script
    from stairstream.backends.scripted import ScriptedBackend as ScriptedBackend
    from stairstream.config.schema import load_config as load_config
    from stairstream.core import topologies as topologies
    from stairstream.core.errors import StairstreamError as StairstreamError
    from stairstream.core.events import AgentEnded as AgentEnded
    from stairstream.core.events import Called as Called
    from stairstream.core.events import Event as Event
    from stairstream.core.events import LayoutChosen as LayoutChosen
    from stairstream.core.events import Noted as Noted
    from stairstream.core.events import Reading as Reading
    from stairstream.core.events import RunEnded as RunEnded
    from stairstream.core.events import RunStarted as RunStarted
    from stairstream.core.events import StepEnded as StepEnded
    from stairstream.core.events import StepStarted as StepStarted
    from stairstream.core.events import Thought as Thought
    from stairstream.core.events import Wrote as Wrote
    from stairstream.core.graph import Agent as Agent
    from stairstream.core.graph import Graph as Graph
    from stairstream.core.graph import Sampling as Sampling
    from stairstream.core.messages import ImagePart as ImagePart
    from stairstream.core.messages import Message as Message
    from stairstream.core.messages import TextPart as TextPart
    from stairstream.core.messages import ToolCall as ToolCall
    from stairstream.core.metrics import AgentSummary as AgentSummary
    from stairstream.core.metrics import Summary as Summary
    from stairstream.core.metrics import summarize as summarize
    from stairstream.core.policy import Policy as Policy
    from stairstream.core.session import Note as Note
    from stairstream.core.session import Usage as Usage
    from stairstream.core.topologies import mixture as mixture
    from stairstream.core.topologies import single as single
    from stairstream.once import ask as ask
    from stairstream.once import ask_async as ask_async
    from stairstream.once import stream as stream
    from stairstream.once import stream_async as stream_async

__version__ = "0.1.0"

# where each public name lives; a module is imported when one of its names is first used, so that this import is quick
_HOMES = {
    "Agent": "core.graph",
    "AgentEnded": "core.events",
    "AgentSummary": "core.metrics",
    "Answer": "answer",
    "Called": "core.events",
    "Event": "core.events",
    "Fault": "backends.scripted",
    "Graph": "core.graph",
    "ImagePart": "core.messages",
    "LayoutChosen": "core.events",
    "Message": "core.messages",
    "Note": "core.session",
    "Noted": "core.events",
    "Policy": "core.policy",
    "Reading": "core.events",
    "RunEnded": "core.events",
    "RunStarted": "core.events",
    "Sampling": "core.graph",
    "Script": "backends.scripted",
    "ScriptedBackend": "backends.scripted",
    "StairstreamError": "core.errors",
    "StepEnded": "core.events",
    "StepStarted": "core.events",
    "Summary": "core.metrics",
    "TextPart": "core.messages",
    "Thought": "core.events",
    "ToolCall": "core.messages",
    "Usage": "core.session",
    "Wrote": "core.events",
    "ask": "once",
    "ask_async": "once",
    "load_config": "config.schema",
    "mixture": "core.topologies",
    "open_pipeline": "api",
    "open_run": "api",
    "single": "core.topologies",
    "stream": "once",
    "stream_async": "once",
    "summarize": "core.metrics",
    "topologies": "core.topologies",
}

__all__ = [
    "Agent",
    "AgentEnded",
    "AgentSummary",
    "Answer",
    "Called",
    "Event",
    "Fault",
    "Graph",
    "ImagePart",
    "LayoutChosen",
    "Message",
    "Note",
    "Noted",
    "Policy",
    "Reading",
    "RunEnded",
    "RunStarted",
    "Sampling",
    "Script",
    "ScriptedBackend",
    "StairstreamError",
    "StepEnded",
    "StepStarted",
    "Summary",
    "TextPart",
    "Thought",
    "ToolCall",
    "Usage",
    "Wrote",
    "ask",
    "ask_async",
    "load_config",
    "mixture",
    "open_pipeline",
    "open_run",
    "single",
    "stream",
    "stream_async",
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
