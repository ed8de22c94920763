"""Checks that the first token comes through the server when the policy promises it.

python -m bench.server_first_token

Three proposers and an aggregator, 200 ms a call, 20 ms a token, prefill free: the first token is due after the first
chunk of a proposer and the first token of the aggregator, 0.2 + (first_chunk - 1) * 0.02 + 0.2 s. Target: at most 1.05
times that and 5 ms.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Mapping

from bench.arguments import arguments, one_or_more
from bench.server_load import Client, Process, Tokens, chat, our_server, pipelines, upstream, use_two_cores, written
from stairstream.api import open_pipeline
from stairstream.config.schema import Config, load_config
from stairstream.core.metrics import summarize
from stairstream.core.policy import PRESETS, Policy

FIRST_S, TOKEN_S, TOKENS = 0.2, 0.02, 128
NUMBERS: Mapping[str, object] = {"first_chunk": 8, "growth": 2, "quorum": "all", "patience_s": 0, "lead": "inf"}
POLICIES = {"8, 2, all, 0, inf": Policy(first_chunk=8, growth=2, quorum="all", patience_s=0), **PRESETS}


def due_s(policy: Policy) -> float:
    """The earliest time of the first token; a negative lead waits for more than the first chunk."""
    tokens = min(max(policy.first_chunk, 1 - policy.lead), TOKENS)
    return FIRST_S + (tokens - 1) * TOKEN_S + FIRST_S


async def through_server_s(client: Client, name: str) -> float:
    """TTFT as a client sees it."""
    known = name in PRESETS
    options = {"policy": name} if known else {"policy": NUMBERS}
    tokens, start_ns = Tokens(), time.monotonic_ns()
    await client.ask(chat("mix", max_tokens=20, stairstream=options), tokens.take)
    assert tokens.first_ns is not None, "an answer without a token"
    return (tokens.first_ns - start_ns) / 1e9


async def through_engine_s(config: Config, name: str) -> float:
    """TTFT of the engine alone, in this process."""
    async with open_pipeline("mix", config=config, policy=POLICIES[name]) as pipeline:
        async with pipeline.open_run("Why is the sky blue?") as run:
            events = [event async for event in run.events()]
    first_s = summarize(events).first_token_s
    assert first_s is not None, "an answer without a token"
    return first_s


async def measure(server: Process, config: Config, args: argparse.Namespace) -> None:
    client = Client(server.base_url)
    print("| policy | due s | engine s | server s | server / due | allowed s | |\n" + "|---" * 7 + "|")
    for name, policy in POLICIES.items():
        await through_server_s(client, name)
        engine_s = statistics.median([await through_engine_s(config, name) for _ in range(3)])
        server_s = statistics.median([await through_server_s(client, name) for _ in range(args.rounds)])
        due, allowed_s = due_s(policy), 1.05 * due_s(policy) + 0.005
        verdict = "met" if server_s <= allowed_s else "MISSED"
        numbers = f"{due:.3f} | {engine_s:.3f} | {server_s:.3f} | {server_s / due:.3f} | {allowed_s:.3f}"
        print(f"| {name} | {numbers} | {verdict} |", flush=True)
    client.close()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=one_or_more, default=9)
    args = parser.parse_args()
    use_two_cores()
    with upstream(tokens=TOKENS, first_s=FIRST_S, token_s=TOKEN_S) as endpoint, our_server(endpoint) as server:
        with written(pipelines(endpoint)) as file:
            asyncio.run(measure(server, load_config(file), args))


if __name__ == "__main__":
    main()
