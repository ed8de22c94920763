"""mixture-llm, with the client for OpenAI's SDK that its README gives. It returns an answer whole: it can't stream.

python -m bench.peers.recipes.mixture BASE_URL
"""

import sys
from typing import Any

from mixture_llm import Aggregate, Propose, run
from openai import AsyncOpenAI

from bench.peers.recipes.turns import Ask, Say, Task, serve


def make(base_url: str) -> Ask:
    """A pipeline of Propose and Aggregate at an endpoint, with its own defaults."""
    openai: Any = AsyncOpenAI(base_url=base_url, api_key="none")

    async def client(model: str, messages: Any, temp: float, max_tokens: int) -> tuple[str, int, int]:
        found = await openai.chat.completions.create(
            model=model, messages=messages, temperature=temp, max_tokens=max_tokens
        )
        return found.choices[0].message.content, found.usage.prompt_tokens, found.usage.completion_tokens

    async def ask(task: Task, say: Say) -> None:
        pipeline = [Propose(list(task.proposers)), Aggregate(task.aggregator)]
        text, _ = await run(pipeline, task.question, client)
        say(text)

    return ask


if __name__ == "__main__":
    serve(make(sys.argv[1]))
