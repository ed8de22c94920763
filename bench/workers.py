"""Measures what several workers cost beside one process: processor time per relayed token, and the delay of tokens.

python -m bench.workers                       100 streams of 20 tokens a second, 1 and 2 workers in five turns
python -m bench.workers --clients 300 --workers 1 2 4

The servers run at once and are asked in turns. Workers share nothing on the way of a token, so that where the machine
has cores for them tokens per second grow with their number divided by what a token costs more.
"""

import statistics
from contextlib import ExitStack

from bench.endpoint import arguments
from bench.floor import Turn, take_turn
from bench.server_load import our_server, pipelines, upstream, use_two_cores, written
from bench.server_streams import FIRST_S, TOKEN_S, TOKENS


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    use_two_cores()
    turns: dict[int, list[Turn]] = {workers: [] for workers in args.workers}
    with ExitStack() as stack:
        endpoint = stack.enter_context(upstream(tokens=TOKENS, first_s=FIRST_S, token_s=TOKEN_S))
        folder = stack.enter_context(written({})).parent
        servers = {}
        for workers in args.workers:
            server = {"workers": workers, "database": str(folder / f"{workers}.db")}
            servers[workers] = stack.enter_context(our_server({**pipelines(endpoint), "server": server}))
        for _ in range(args.turns):
            for workers, process in servers.items():
                turns[workers].append(take_turn(process, args.clients))
    print("| workers | us per token | of one | tokens per read | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    one = turns[args.workers[0]]
    for workers, found in turns.items():
        ratio = statistics.median(b.us_per_token / a.us_per_token for a, b in zip(one, found, strict=True))
        cost, reads = _median(found, "us_per_token"), _median(found, "tokens_per_read")
        delays = f"{_median(found, 'p50_ms'):.1f} | {_median(found, 'p99_ms'):.1f}"
        print(f"| {workers} | {cost:.1f} | {ratio:.2f} | {reads:.2f} | {delays} |")


def _median(turns: list[Turn], number: str) -> float:
    return float(statistics.median(getattr(turn, number) for turn in turns))


if __name__ == "__main__":
    main()
