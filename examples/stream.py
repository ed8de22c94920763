"""The answer as it comes, word by word."""

import asyncio

import stairstream


async def main() -> None:
    async with stairstream.open_pipeline("mix") as pipeline, pipeline.open_run("Why is the sky blue?") as run:
        async for event in run.events():
            if isinstance(event, stairstream.Wrote) and event.agent == run.graph.answer:
                print(run.text(event), end="", flush=True)


asyncio.run(main())
