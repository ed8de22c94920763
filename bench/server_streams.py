"""Measures many clients at once: a token's delay from the endpoint's write to the client's read, and lost tokens.

python -m bench.server_streams                    300 clients of a single model, then 75 of a three-proposer mixture
python -m bench.server_streams --seconds 20       the default is two minutes each

Each client asks again as soon as it has its answer of 200 tokens at 20 a second. Clients, server and endpoint are three
processes on the same two cores. Of a mixture the tokens of the answering agent count.
"""

import argparse
import asyncio
import random
import time
from array import array
from dataclasses import dataclass, field

from bench.arguments import arguments, positive, zero_or_more
from bench.server_load import (
    AskFailed,
    Client,
    Process,
    Tokens,
    chat,
    our_server,
    quantile,
    upstream,
    use_two_cores,
)

TOKENS = 200
TOKEN_S = 0.05
FIRST_S = 0.2


@dataclass(slots=True)
class Result:
    """Results of all clients of one pipeline."""

    delays_ms: "array[float]" = field(default_factory=lambda: array("d"))
    answers: int = 0
    lost: int = 0
    errors: list[str] = field(default_factory=list)


async def keep_asking(base_url: str, model: str, start_s: float, until_s: float, result: Result) -> None:
    """Runs one client from its start to the end of the measurement."""
    await asyncio.sleep(start_s)
    client = Client(base_url)
    while time.monotonic() < until_s:
        tokens = Tokens()
        try:
            await client.ask(chat(model, max_tokens=TOKENS), tokens.take)
        except AskFailed as exc:
            result.errors.append(str(exc))
            continue
        result.answers += 1
        result.lost += abs(TOKENS - len(tokens.delays_ms)) + tokens.num_wrong + (not tokens.is_done)
        result.delays_ms.extend(tokens.delays_ms)
    client.close()


async def measure(server: Process, model: str, num_clients: int, seconds: float) -> Result:
    """Runs all clients, with starts that are spread out so that they do not run in step."""
    result, chance = Result(), random.Random(0)
    until_s = time.monotonic() + seconds
    starts = [chance.uniform(0, min(5, seconds / 4)) for _ in range(num_clients)]
    await asyncio.gather(*(keep_asking(server.base_url, model, start_s, until_s, result) for start_s in starts))
    return result


def report(name: str, result: Result, shares: dict[str, float], wall_s: float) -> None:
    """Prints a row of the table."""
    delays = sorted(result.delays_ms)
    numbers = " | ".join(f"{quantile(delays, share):.1f}" for share in (0.5, 0.9, 0.99, 0.999, 1))
    used = ", ".join(f"{process} {share:.0%}" for process, share in shares.items())
    used += f"; {shares['server'] * wall_s / len(delays) * 1e6:.0f}"
    print(
        f"| {name} | {result.answers:,} | {len(delays):,} | {len(result.errors)} | {result.lost} | {numbers} | {used} |"
    )
    for error in sorted(set(result.errors))[:3]:
        print(f"  {error}")


def run(server: Process, endpoint: Process, model: str, num_clients: int, args: argparse.Namespace) -> None:
    before = {"server": server.cpu_s(), "endpoint": endpoint.cpu_s(), "clients": time.process_time()}
    start_s = time.monotonic()
    result = asyncio.run(measure(server, model, num_clients, args.seconds))
    wall_s = time.monotonic() - start_s
    after = {"server": server.cpu_s(), "endpoint": endpoint.cpu_s(), "clients": time.process_time()}
    report(
        f"{num_clients} of `{model}`", result, {name: (after[name] - before[name]) / wall_s for name in after}, wall_s
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=positive, default=120)
    parser.add_argument("--single", type=zero_or_more, default=300, metavar="CLIENTS")
    parser.add_argument("--mix", type=zero_or_more, default=75, metavar="CLIENTS")
    parser.add_argument("--direct", action="store_true", help="also without the server: what clients and endpoint add")
    args = parser.parse_args()
    use_two_cores()
    columns = (
        "clients",
        "answers",
        "tokens",
        "errors",
        "lost",
        "p50 ms",
        "p90",
        "p99",
        "p99.9",
        "max",
        "CPU; server's us a token",
    )
    with upstream(tokens=TOKENS, first_s=FIRST_S, token_s=TOKEN_S) as endpoint, our_server(endpoint) as server:
        print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
        if args.direct:
            run(endpoint, endpoint, "m", args.single, args)
        if args.single:
            run(server, endpoint, "single", args.single, args)
        if args.mix:
            run(server, endpoint, "mix", args.mix, args)


if __name__ == "__main__":
    main()
