"""The command: starts each part as a process, cuts it at its limit, and shows the tables at the end."""

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import bench.gpu_all
from bench.arguments import arguments
from bench.gpu_all.results import Result, Results, make_table
from bench.gpu_all.setup import Setup
from bench.random_model import SIZES

_LIMITS_S = {"card": 25.0, "right": 40.0, "paper": 100.0, "many": 60.0, "decoding": 35.0, "training": 95.0}
"""The parts, most telling first, and the time limit of each: together less than six minutes."""
_GRACE_S = 2.0
_TINY_TIMES = 5
"""A tiny model is no measurement: each part may take so many times its limit, on a busy machine."""


def main() -> int:
    args = _parse()
    if args.table is not None:
        print(make_table(Results(args.table)))
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    results = Results(args.out / "results.jsonl")
    if args.inside is not None:
        setup = Setup(size=args.size, limit_s=_limit_s(args.inside, args.size), results=results, part=args.inside)
        importlib.import_module(f"bench.gpu_all.{args.inside}").run(setup)
        return 0
    codes = [_run_part(part, args, results) for part in args.only]
    print("\n" + make_table(results))
    return max(codes)


def _run_part(part: str, args: argparse.Namespace, results: Results) -> int:
    """Runs a part to its end or to its limit; returns 1 if it did not end well."""
    command = [sys.executable, "-m", "bench.gpu_all", "--inside", part, "--size", args.size, "--out", str(args.out)]
    start, limit_s = time.monotonic(), _limit_s(part, args.size)
    with (args.out / "log.txt").open("a", encoding="utf-8") as log:
        print(f"== {part}", file=log, flush=True)
        try:
            code = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, timeout=limit_s + _GRACE_S, check=False
            ).returncode
            failure = f"exit status {code}: see log.txt" if code else None
        except subprocess.TimeoutExpired:
            failure = f"cut after {limit_s:g} s"
    if failure is not None:
        results.add(Result(part=part, case="the part", failure=failure))
    print(f"{part}: {time.monotonic() - start:.1f} s{f', {failure}' if failure else ''}", flush=True)
    return 1 if failure else 0


def _limit_s(part: str, size: str) -> float:
    return _LIMITS_S[part] * (_TINY_TIMES if size == "tiny" else 1)


def _parse() -> argparse.Namespace:
    parser = arguments(bench.gpu_all.__doc__)
    default = Path(os.environ.get("OUT", "build/gpu"))
    parser.add_argument("--only", nargs="+", choices=tuple(_LIMITS_S), default=tuple(_LIMITS_S), metavar="PART")
    parser.add_argument("--size", choices=sorted(SIZES), default="8b")
    parser.add_argument("--out", type=Path, default=default, help=f"a folder for the results (default: {default})")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only show the tables of a file of results")
    parser.add_argument("--inside", choices=tuple(_LIMITS_S), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
