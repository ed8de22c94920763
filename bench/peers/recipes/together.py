"""Together's recipe for a mixture of agents, written anew from its description, over the SDK of OpenAI.

python -m bench.peers.recipes.together BASE_URL

All proposers are asked at once (temperature 0.7, 512 tokens; a rate limit is tried again after 1, 2 and 4 s). When all
have answered, their answers are listed under the system message, and the aggregator's answer is streamed.
"""

import asyncio
import sys
from typing import Any

from openai import AsyncOpenAI, RateLimitError

from bench.peers.recipes.turns import Ask, Say, Task, serve

COMBINE = (
    "Several models have answered the user's latest question; their answers are listed below. Combine them into one "
    "answer of high quality. Judge what they say, as some of it may be biased or wrong; do not just repeat them, but "
    "give a refined, correct and complete reply that is well structured and holds to the highest standard.\n\n"
    "Answers of the models:\n"
)


def make(base_url: str) -> Ask:
    """The recipe at an endpoint."""
    client: Any = AsyncOpenAI(base_url=base_url, api_key="none")

    async def propose(model: str, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        for pause_s in (1, 2, 4):
            try:
                found = await client.chat.completions.create(
                    model=model, messages=messages, temperature=0.7, max_tokens=512
                )
                return str(found.choices[0].message.content)
            except RateLimitError:
                await asyncio.sleep(pause_s)
        raise RuntimeError(f"{model} is busy")

    async def ask(task: Task, say: Say) -> None:
        answers = await asyncio.gather(*(propose(model, task.question) for model in task.proposers))
        listed = "\n".join(f"{number}. {text}" for number, text in enumerate(answers, 1))
        messages = [{"role": "system", "content": COMBINE + listed}, {"role": "user", "content": task.question}]
        async for chunk in await client.chat.completions.create(model=task.aggregator, messages=messages, stream=True):
            if chunk.choices:
                say(chunk.choices[0].delta.content or "")

    return ask


if __name__ == "__main__":
    serve(make(sys.argv[1]))
