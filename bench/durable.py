"""Measures what a durable run costs: its first token, the delay of each, and processor time, beside a run that is not.

python -m bench.durable                    300 streams of 20 tokens a second, each server in three turns
python -m bench.durable --database postgresql://USER@HOST/DB      on that PostgreSQL too; its tables are made
python -m bench.durable --clients 100

All servers run at once, and are asked in turns by the same clients for the same answers. A token's delay is from the
endpoint's write to the client's read; first tokens are also measured one answer at a time.
"""

import asyncio
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.arguments import arguments, one_or_more
from bench.floor import Turn, take_turn
from bench.server_load import Client, Process, Tokens, chat, our_server, pipelines, quantile, upstream, use_two_cores
from bench.server_streams import FIRST_S, TOKEN_S, TOKENS

FIRST_TOKENS = 100
"""Answers whose first token is measured, one at a time."""


def durable(endpoint: Process, database: str) -> Mapping[str, object]:
    """The pipelines, each durable."""
    config = pipelines(endpoint)
    given = config["pipelines"]
    assert isinstance(given, dict)
    return {
        **config,
        "pipelines": {name: {**keys, "durable": True} for name, keys in given.items()},
        "server": {"database": database},
    }


async def ask_first(server: Process) -> list[float]:
    """Delays of first tokens, in milliseconds."""
    found = []
    client = Client(server.base_url)
    for _ in range(FIRST_TOKENS):
        answer = Tokens()
        await client.ask(chat("single", max_tokens=3), answer.take)
        found.append(answer.delays_ms[0])
    client.close()
    return found


def report(turns: Mapping[str, list[Turn]], firsts: Mapping[str, list[float]]) -> None:
    """Prints medians of each server, all its turns, and the medians of what the journal adds in each of them."""
    print("| | first token p50 ms | p99 ms | us a token | of all turns | token p50 ms | p99 ms |")
    print("|---|---|---|---|---|---|---|")
    for name, own in turns.items():
        first = " | ".join(f"{quantile(firsts[name], share):.1f}" for share in (0.5, 0.99))
        costs = ", ".join(f"{turn.us_per_token:.1f}" for turn in own)
        cost, p50, p99 = (median(own, key) for key in ("us_per_token", "p50_ms", "p99_ms"))
        print(f"| {name} | {first} | {cost:.1f} | {costs} | {p50:.1f} | {p99:.1f} |")
    for name in [*turns][1:]:
        pairs = [*zip(turns[name], turns["plain"], strict=True)]
        first_ms = quantile(firsts[name], 0.5) - quantile(firsts["plain"], 0.5)
        late_ms = statistics.median(kept.p99_ms - plain.p99_ms for kept, plain in pairs)
        times = [kept.us_per_token / plain.us_per_token for kept, plain in pairs]
        every = f"{statistics.median(times):.2f} times ({min(times):.2f} to {max(times):.2f})"
        print(f"\n{name} adds: first token {first_ms:.1f} ms, p99 of a token {late_ms:.1f} ms; processor time {every}")


def median(turns: Sequence[Turn], key: str) -> float:
    """The median of a field."""
    values: list[float] = [getattr(turn, key) for turn in turns]
    return statistics.median(values)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clients", type=one_or_more, default=300)
    parser.add_argument("--turns", type=one_or_more, default=3)
    parser.add_argument("--database", help="the postgresql:// URL of one more server's database")
    args = parser.parse_args()
    use_two_cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = stack.enter_context(upstream(tokens=TOKENS, first_s=FIRST_S, token_s=TOKEN_S))
        servers = {
            "plain": stack.enter_context(our_server(endpoint)),
            "SQLite": stack.enter_context(our_server(durable(endpoint, str(folder / "server.db")))),
        }
        if args.database:
            servers["PostgreSQL"] = stack.enter_context(our_server(durable(endpoint, args.database)))
        firsts = {name: asyncio.run(ask_first(server)) for name, server in servers.items()}
        turns: dict[str, list[Turn]] = {name: [] for name in servers}
        for _ in range(args.turns):
            for name, server in servers.items():
                turns[name].append(take_turn(server, args.clients))
        report(turns, firsts)


if __name__ == "__main__":
    main()
