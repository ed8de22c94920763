"""Measures what the server adds to TTFT, one request at a time, and to many requests, compared with LiteLLM's proxy.

python -m bench.server_overhead                              without LiteLLM
python -m bench.server_overhead --litellm PATH/litellm       with its proxy, one worker as here

The same client asks all servers in turns for the same answers of the same endpoint.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.arguments import arguments, one_or_more, positive, zero_or_more
from bench.server_load import (
    STAMP,
    Client,
    Process,
    Tokens,
    chat,
    litellm_proxy,
    our_server,
    pipelines,
    quantile,
    upstream,
    use_two_cores,
    written,
)
from stairstream.api import Pipeline, open_pipeline
from stairstream.core.events import Wrote

FIELDS = {"max_tokens": 20}


async def first_token_ms(client: Client, model: str) -> float:
    """TTFT of a request, in milliseconds."""
    tokens, start_ns = Tokens(), time.monotonic_ns()
    await client.ask(chat(model, **FIELDS), tokens.take)
    assert tokens.first_ns is not None, "an answer without a token"
    return (tokens.first_ns - start_ns) / 1e6


async def engine_first_token_ms(pipeline: Pipeline) -> float:
    """TTFT of the engine alone, in this process."""
    start_s = time.perf_counter()
    async with pipeline.open_run("Why is the sky blue?") as run:
        first_ms = None
        async for event in run.events():
            if first_ms is None and isinstance(event, Wrote):
                first_ms = (time.perf_counter() - start_s) * 1000
    assert first_ms is not None, "an answer without a token"
    return first_ms


async def measure_first(servers: Mapping[str, Process], models: Mapping[str, str], config: Path, rounds: int) -> None:
    """Prints the TTFT of all servers and of the engine, measured in turns."""
    clients = {name: Client(server.base_url) for name, server in servers.items()}
    found: dict[str, list[float]] = {name: [] for name in (*servers, "engine")}
    async with open_pipeline("single", config=config) as pipeline:
        asks: dict[str, Callable[[], Awaitable[float]]] = {
            name: lambda name=name: first_token_ms(clients[name], models[name])  # type: ignore[misc]
            for name in servers
        }
        asks["engine"] = lambda: engine_first_token_ms(pipeline)
        for round in range(rounds + 5):
            for name, ask in asks.items():
                value_ms = await ask()
                if round >= 5:
                    found[name].append(value_ms)
    engine_ms = statistics.median(found["engine"])
    print("\n| first token of | median ms | p90 ms | added to the engine, ms |\n|---|---|---|---|")
    for name, values in found.items():
        median_ms = statistics.median(values)
        print(f"| {name} | {median_ms:.2f} | {quantile(values, 0.9):.2f} | {median_ms - engine_ms:+.2f} |")
    for client in clients.values():
        client.close()


async def ask_streamed(client: Client, model: str) -> int:
    """Asks for a streamed answer; returns the number of tokens that came in order."""
    tokens = Tokens()
    await client.ask(chat(model, **FIELDS), tokens.take)
    return len(tokens.delays_ms) - tokens.num_wrong


async def ask_whole(client: Client, model: str) -> int:
    """Asks for an answer in one piece; returns its number of tokens."""
    parts: list[bytes] = []
    await client.ask(chat(model, **FIELDS, stream=False), lambda now_ns, data: parts.append(data))
    return len(STAMP.findall(b"".join(parts)))


Ask = Callable[[Client, str], Awaitable[int]]


async def measure_rate(server: Process, model: str, num_clients: int, seconds: float, ask: Ask) -> tuple[float, float]:
    """Answers per second of a closed loop, and the server's processor time for each in milliseconds."""
    until_s = time.monotonic() + seconds
    count = 0

    async def keep_asking() -> None:
        nonlocal count
        client = Client(server.base_url)
        while time.monotonic() < until_s:
            assert await ask(client, model) == FIELDS["max_tokens"], "lost tokens"
            count += 1
        client.close()

    cpu_s, start_s = server.cpu_s(), time.monotonic()
    await asyncio.gather(*(keep_asking() for _ in range(num_clients)))
    return count / (time.monotonic() - start_s), (server.cpu_s() - cpu_s) / count * 1000


async def measure(servers: Mapping[str, Process], models: Mapping[str, str], args: argparse.Namespace) -> None:
    with written(pipelines(servers["endpoint"])) as config:
        await measure_first(servers, models, config, args.rounds)
    for manner, ask in (("streamed", ask_streamed), ("whole", ask_whole)):
        await show_rates(servers, models, args, manner, ask)


async def show_rates(
    servers: Mapping[str, Process], models: Mapping[str, str], args: argparse.Namespace, manner: str, ask: Ask
) -> None:
    rates = {}
    for name, server in servers.items():
        await measure_rate(server, models[name], args.clients, 1, ask)
        rates[name] = await measure_rate(server, models[name], args.clients, args.seconds, ask)
    print(f"\n| {args.clients} clients, 20 tokens, {manner} | answers/s | CPU ms each |\n|---|---|---|")
    for name, (rate, cpu_ms) in rates.items():
        print(f"| {name} | {rate:,.0f} | {cpu_ms:.2f} |")
    if "litellm" in rates:
        print(f"\nstairstream gives {rates['stairstream'][0] / rates['litellm'][0]:.1f} times as many as LiteLLM")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--litellm", metavar="COMMAND", help="the command of LiteLLM's proxy")
    parser.add_argument("--port", type=zero_or_more, default=4117, help="for LiteLLM, which can't choose a free one")
    parser.add_argument("--rounds", type=one_or_more, default=200)
    parser.add_argument("--clients", type=one_or_more, default=8)
    parser.add_argument("--seconds", type=positive, default=10)
    args = parser.parse_args()
    use_two_cores()
    with ExitStack() as stack:
        endpoint = stack.enter_context(upstream(tokens=20))
        servers = {"endpoint": endpoint, "stairstream": stack.enter_context(our_server(endpoint))}
        models = {"endpoint": "m", "stairstream": "single", "litellm": "single"}
        if args.litellm:
            servers["litellm"] = stack.enter_context(litellm_proxy(endpoint.base_url, args.litellm, args.port))
        asyncio.run(measure(servers, models, args))


if __name__ == "__main__":
    main()
