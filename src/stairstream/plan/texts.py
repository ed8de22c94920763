"""Lengths of the texts that agents write, from a user's own recorded answers."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from stairstream.core.graph import Graph
from stairstream.core.tokens import estimate_tokens
from stairstream.eval.recorded import RecordedPrompt, pick, read_prompts

Lengths = Mapping[str, int]
"""Tokens by agent."""


def read_lengths(file: Path, graph: Graph, limit: int) -> list[Lengths]:
    """For each of a sample of the file's prompts, the tokens that each agent would write.

    An agent writes as much as the output that is named like it or like its model; where there is none, as much as
    one of the prompt's outputs, chosen at random but always the same. Raises ConfigError for a file that is no such.
    """
    return [_lengths_of(prompt, graph) for prompt in pick(read_prompts(file), limit)]


def _lengths_of(prompt: RecordedPrompt, graph: Graph) -> Lengths:
    chosen = random.Random(prompt.id)
    texts = sorted(prompt.outputs)
    found = {}
    for agent in graph.agents:
        name = next((one for one in (agent.name, agent.model) if one in prompt.outputs), None)
        found[agent.name] = max(1, estimate_tokens(prompt.outputs[name or chosen.choice(texts)]))
    return found


def same_lengths(graph: Graph, answer_tokens: Mapping[str, float | None], usual: int) -> Sequence[Lengths]:
    """Lengths where nothing was recorded: what each model is known to write (by model), else `usual`."""
    return [{agent.name: max(1, round(answer_tokens.get(agent.model) or usual)) for agent in graph.agents}]
