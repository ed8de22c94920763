"""Runs that are over, made by asking a server in virtual time."""

from typing import Any

from stairstream.server.runs.finished import Finished
from stairstream.sim.clock import run
from tests.server.driving import client_of

CONFIG = """
models:
  p: {backend: scripted, length: 4, first_token_s: 0.5, token_s: 0.25, price: {prompt: 100, completion: 1000}}
  a: {backend: scripted, takes: [tools], text: "Blue light scatters most.", first_token_s: 0.25, token_s: 0.25}
  bad: {backend: scripted, length: 4, attempts: 2, fallbacks: [a], fault: {kind: status_500}}
  broken: {backend: scripted, length: 4, attempts: 1, fault: {kind: cut, after_tokens: 2}}
pipelines:
  mix: {topology: mixture, proposers: [p, p], aggregator: a, policy: {first_chunk: 2, growth: 2, lead: inf}}
  failing: {topology: mixture, proposers: [p, broken], aggregator: bad, policy: wait}
  broken: {topology: single, model: broken}
"""


def finish(*models: str, **fields: Any) -> list[Finished]:
    """The finished runs that observers get for one run of each of these pipelines of CONFIG."""

    async def main() -> list[Finished]:
        found: list[Finished] = []
        async with client_of(CONFIG, found.append) as client:
            for model in models:
                await client.chat(model, **fields)
        return found

    return run(main())
