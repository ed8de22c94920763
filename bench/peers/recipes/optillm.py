"""optillm's proxy, asked for a streamed answer by its approach `moa`: three answers of one model, their critique by it,
and its final answer, one after the other.

python -m bench.peers.recipes.optillm BASE_URL_OF_THE_PROXY
"""

import sys
from typing import Any

from openai import AsyncOpenAI

from bench.peers.recipes.turns import Ask, Say, Task, serve


def make(base_url: str) -> Ask:
    """The proxy's own mixture; `proposers` of a task are not used, as it has one model."""
    client: Any = AsyncOpenAI(base_url=base_url, api_key="none")

    async def ask(task: Task, say: Say) -> None:
        messages = [{"role": "user", "content": task.question}]
        model = f"moa-{task.aggregator}"
        async for chunk in await client.chat.completions.create(model=model, messages=messages, stream=True):
            if chunk.choices:
                say(chunk.choices[0].delta.content or "")

    return ask


if __name__ == "__main__":
    serve(make(sys.argv[1]))
