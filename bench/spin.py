"""A pass on two threads, alone and beside a busy process, by the rounds that OpenMP threads look for work.

    python -m bench.spin

The pass is of the products of SmolLM2-135M's 30 layers, in float32; each row is a process of its own.
"""

import os
import subprocess
import sys
import time

import torch
from torch.nn import Linear
from torch.nn.functional import silu

from bench.arguments import arguments, one_or_more, positive

_ROUNDS = ("300000", "1000")
_BUSY = "while True: pass"


def _time_pass(num_tokens: int, seconds: float) -> float:
    """Milliseconds of a pass, on average over so many seconds."""
    torch.set_num_threads(2)
    layers = [(Linear(576, 576), Linear(576, 1536), Linear(1536, 576)) for _ in range(30)]
    hidden, count, start = torch.randn(num_tokens, 576), 0, time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - start < seconds:
            for mix, widen, narrow in layers:
                mixed = hidden + mix(hidden)
                mixed + narrow(silu(widen(mixed)))
            count += 1
    return (time.perf_counter() - start) / count * 1000


def _measure(num_tokens: int, rounds: str, seconds: float) -> float:
    command = [sys.executable, "-m", "bench.spin", "--one", str(num_tokens), "--seconds", str(seconds)]
    done = subprocess.run(command, env={**os.environ, "GOMP_SPINCOUNT": rounds}, capture_output=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure, and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=positive, default=3)
    parser.add_argument(
        "--one", type=one_or_more, metavar="TOKENS", help="time passes of so many tokens in this process"
    )
    args = parser.parse_args()
    if args.one:
        print(_time_pass(args.one, args.seconds))
        return
    print(f"| busy processes beside it | tokens | {' ms | '.join(_ROUNDS)} ms |\n|---|---|---|---|")
    for num_busy in (0, 1):
        busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(num_busy)]
        try:
            for num_tokens in (16, 256):
                found = [_measure(num_tokens, rounds, args.seconds) for rounds in _ROUNDS]
                print(f"| {num_busy} | {num_tokens} | {' | '.join(f'{one:.0f}' for one in found)} |", flush=True)
        finally:
            for process in busy:
                process.kill()


if __name__ == "__main__":
    main()
