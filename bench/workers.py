"""Measures what several workers cost beside one process: processor time per relayed token, and the delay of tokens.

python -m bench.workers                       100 streams of 20 tokens a second, 1 and 2 workers in five turns
python -m bench.workers --clients 300 --workers 1 2 4
python -m bench.workers --each                100 streams for each worker: what workers are for

The servers run at once and are asked in turns. Workers share nothing on the way of a token, so that where the machine
has cores for them tokens per second grow with their number divided by what a token costs more. With the same streams
on more workers a token costs more also because each turn of a loop finds fewer of them, which a single process with as
few pays too: with --each only what is due to their number is left.
"""

import statistics
import time
from contextlib import ExitStack

from bench.arguments import arguments, one_or_more
from bench.floor import Turn, take_turn
from bench.server_load import Process, our_server, pipelines, upstream, use_two_cores, written
from bench.server_streams import FIRST_S, TOKEN_S, TOKENS

IDLE_S = 5.0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=one_or_more, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=one_or_more, default=100)
    parser.add_argument("--turns", type=one_or_more, default=5)
    parser.add_argument("--each", action="store_true", help="--clients is for each worker")
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
        idle_ms = {workers: _idle_ms(process) for workers, process in servers.items()}
        for _ in range(args.turns):
            for workers, process in servers.items():
                turns[workers].append(take_turn(process, args.clients * (workers if args.each else 1)))
    print("| workers | us per token | of one | tokens per read | p50 ms | p99 ms | at rest, ms per second |")
    print("|---|---|---|---|---|---|---|")
    one = turns[args.workers[0]]
    for workers, found in turns.items():
        ratio = statistics.median(b.us_per_token / a.us_per_token for a, b in zip(one, found, strict=True))
        cost, reads = _median(found, "us_per_token"), _median(found, "tokens_per_read")
        delays = f"{_median(found, 'p50_ms'):.1f} | {_median(found, 'p99_ms'):.1f}"
        print(f"| {workers} | {cost:.1f} | {ratio:.2f} | {reads:.2f} | {delays} | {idle_ms[workers]:.1f} |")


def _idle_ms(server: Process) -> float:
    """Processor time that it uses in a second without clients."""
    before_s = server.cpu_s()
    time.sleep(IDLE_S)
    return (server.cpu_s() - before_s) / IDLE_S * 1e3


def _median(turns: list[Turn], number: str) -> float:
    return float(statistics.median(getattr(turn, number) for turn in turns))


if __name__ == "__main__":
    main()
