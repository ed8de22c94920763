"""A graph of your own on backends of your own; scripted ones here, which write given words at given times."""

import asyncio

from stairstream import Message, Script, ScriptedBackend, mixture, open_run, summarize


async def main() -> None:
    fast = ScriptedBackend(Script(words=["Air ", "scatters ", "blue ", "light."], token_s=0.01), model="fast")
    slow = ScriptedBackend(Script(words=["Rayleigh ", "scattering."], first_token_s=0.1, token_s=0.01), model="slow")
    graph = mixture(proposers=["fast", "fast", "slow"], aggregator="fast")
    question = (Message(role="user", content="Why is the sky blue?"),)
    async with open_run(graph, question, {"fast": fast, "slow": slow}) as run:
        events = [event async for event in run.events()]
    summary = summarize(events)
    print(run.answer)
    for agent in summary.agents:
        print(f"{agent.name}: {agent.usage.completion_tokens} tokens, ended: {agent.reason}")


asyncio.run(main())
