"""Lengths of the texts that agents write, from a user's own recorded answers."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from stairstream.core.errors import ConfigError
from stairstream.core.graph import Graph
from stairstream.core.tokens import estimate_tokens
from stairstream.eval.recorded import pick, read_rows

QUESTION_TOKENS = 50
"""Where nothing is known of the questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens that each agent would write, by agent, and those of the question."""

    agents: Mapping[str, int]
    question: int = QUESTION_TOKENS


class _Recorded(msgspec.Struct, frozen=True, kw_only=True):
    outputs: dict[str, str]
    prompt: str = ""
    instruction: str = ""
    id: str = ""


def read_lengths(file: Path, graph: Graph, limit: int) -> list[Lengths]:
    """For each of a sample of the file's prompts, its tokens and those that each agent would write.

    An agent writes as much as the output that is named like it or like its model; where there is none, as much as
    one of the prompt's outputs, chosen at random but always the same. Raises ConfigError for a file that is no such.
    """
    rows = read_rows(file, _Recorded)
    if empty := next((number for number, row in enumerate(rows, 1) if not row.outputs), None):
        raise ConfigError(f"{file}, prompt {empty}: its `outputs` are empty; a text by the name of each agent is there")
    numbered = [(row.id or str(number), row) for number, row in enumerate(rows, 1)]
    return [
        lengths_of(prompt_id, row.prompt or row.instruction, row.outputs, graph)
        for prompt_id, row in pick(numbered, limit)
    ]


def lengths_of(prompt_id: str, prompt: str, outputs: Mapping[str, str], graph: Graph) -> Lengths:
    """As `read_lengths`, for one prompt."""
    chosen = random.Random(prompt_id)
    texts = sorted(outputs)
    found = {}
    for agent in graph.agents:
        name = next((one for one in (agent.name, agent.model) if one in outputs), None)
        found[agent.name] = max(1, estimate_tokens(outputs[name or chosen.choice(texts)]))
    return Lengths(agents=found, question=estimate_tokens(prompt) or QUESTION_TOKENS)


def fit_lengths(graph: Graph, lengths: Lengths, whole: Graph) -> Lengths:
    """The lengths of `whole` for the agents of a graph of it: the answering model alone writes as much as there."""
    answer = lengths.agents[whole.answer]
    return replace(lengths, agents={agent.name: lengths.agents.get(agent.name, answer) for agent in graph.agents})


def same_lengths(graph: Graph, answer_tokens: Mapping[str, float | None], usual: int) -> Sequence[Lengths]:
    """Lengths where nothing was recorded: what each model is known to write (by model), else `usual`."""
    agents = {agent.name: max(1, round(answer_tokens.get(agent.model) or usual)) for agent in graph.agents}
    return [Lengths(agents=agents)]
