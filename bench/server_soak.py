"""Tests the server under all that clients and endpoints do wrong: checks that nothing leaks.

python -m bench.server_soak                  30 minutes
python -m bench.server_soak --minutes 2

Clients stay, disconnect at once or in mid-answer, come back to runs that they left, or send nonsense; one call in
twenty of the endpoint fails in one of four ways. From time to time all clients disconnect, and the server has a few
seconds to become idle: then its memory, tasks, files and calls are counted.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.arguments import arguments, one_or_more, positive
from bench.server_load import AskFailed, Client, Process, chat, our_server, upstream, use_two_cores

REST_S = 4.0
KEEP_S = 1.5
_RUN_ID = re.compile(rb"x-stairstream-run: (\w+)")
_EVENT_ID = re.compile(rb"(?:^|\n)id: (\d+)\n")


@dataclass(slots=True)
class Seen:
    """Counts of what the clients saw."""

    how: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Events:
    """The numbers of a run's raw events as they come, and the run's id."""

    run_id: str = ""
    last: int = -1
    num_wrong: int = 0
    rest: bytes = b""

    def take(self, now_ns: int, data: bytes) -> None:
        """Reads bytes of a stream of events; a Take."""
        if found := _RUN_ID.search(data):
            self.run_id = found[1].decode()
        data = self.rest + data
        end = data.rfind(b"\n\n") + 2
        self.rest = data[end:] if end > 1 else data
        for number in _EVENT_ID.findall(data[: max(end, 0)]):
            self.num_wrong += int(number) != self.last + 1
            self.last = int(number)


async def visit(base_url: str, chance: random.Random, seen: Seen) -> None:
    """Sends one request of one client, or several that belong together."""
    client = Client(base_url)
    model = chance.choice(("single", "single", "mix"))
    kind = chance.choice(("stay", "stay", "leave", "leave", "leave at once", "whole", "whole left", "run", "nonsense"))
    try:
        match kind:
            case "stay" | "whole":
                await _ask(client, chat(model, max_tokens=60, stream=kind == "stay"), seen, kind)
            case "leave" | "whole left":
                await _ask(client, chat(model, stream=kind == "leave"), seen, kind, chance.uniform(0.01, 0.8))
            case "leave at once":
                await _ask(client, chat(model), seen, kind, 0)
            case "run":
                await _come_back(client, base_url, model, chance, seen)
            case _:
                body = chance.choice((b"{", chat("unknown"), chat(model, n=3), chat(model, messages=[]), b"\xff" * 99))
                await _ask(client, body, seen, kind)
    finally:
        client.close()


async def _ask(client: Client, body: bytes, seen: Seen, kind: str, leave_s: float | None = None) -> None:
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(60 if leave_s is None else leave_s):
            await client.ask(body, lambda now, data: parts.append(data))
    except TimeoutError:
        seen.how[f"{kind}: left"] += 1
        if leave_s is None:
            seen.wrong.append(f"{kind}: no end within a minute")
    except AskFailed as exc:
        status = str(exc)[9:12]
        seen.how[f"{kind}: {status}"] += 1
        if status == "500" or (kind == "nonsense") != status.startswith("4"):
            if status not in ("429", "502", "503", "504"):
                seen.wrong.append(f"{kind}: {exc}")
    else:
        is_broken = b'data: {"error"' in b"".join(parts)
        seen.how[f"{kind}: {'cut off' if is_broken else 'whole'}"] += 1


async def _come_back(client: Client, base_url: str, model: str, chance: random.Random, seen: Seen) -> None:
    """Leaves a run and comes back to it, up to three times; every event must come once."""
    events = Events()
    path, method, headers = "/runs", "POST", ""
    body = chat(model, stairstream={"keep_s": KEEP_S})
    for _ in range(4):
        try:
            async with asyncio.timeout(chance.uniform(0.05, 0.6)):
                await client.ask(body, events.take, path, method, headers)
            break
        except TimeoutError:
            client.close()
            events.rest = b""
            await asyncio.sleep(chance.uniform(0, KEEP_S / 2))
        except AskFailed as exc:
            seen.how[f"run: {str(exc)[9:12]}"] += 1
            break
        if not events.run_id:
            return
        client = Client(base_url)
        path, method, body = f"/runs/{events.run_id}/events", "GET", b""
        headers = f"Last-Event-ID: {events.last}\r\n" if events.last >= 0 else ""
    client.close()
    seen.how["run"] += 1
    if events.num_wrong:
        seen.wrong.append(f"run {events.run_id}: {events.num_wrong} events lost or twice")


async def keep_asking(base_url: str, chance: random.Random, until_s: float, seen: Seen) -> None:
    """Runs one client."""
    while time.monotonic() < until_s:
        try:
            await visit(base_url, chance, seen)
        except OSError as exc:
            seen.wrong.append(f"no connection: {exc}")
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """Counts of the idle server. `files` excludes connections to the endpoint, which are kept for a while."""

    rss_mb: float
    tasks: int
    files: int
    open_calls: int


def look(target: Process, endpoint: Process, tally: Path) -> Rest:
    """Counts the memory, tasks, files and calls of the server."""
    before = tally.stat().st_mtime_ns if tally.exists() else 0
    os.kill(target.pid, signal.SIGUSR1)
    for _ in range(100):
        if tally.exists() and tally.stat().st_mtime_ns != before:
            break
        time.sleep(0.05)
    with urllib.request.urlopen(endpoint.base_url.replace("/v1", "/_counts"), timeout=5) as answer:
        counts = json.load(answer)
    connections = counts["connections"] - 1  # this one
    return Rest(
        rss_mb=target.rss_mb(),
        tasks=int(tally.read_text()),
        files=target.num_files() - connections,
        open_calls=counts["open_calls"],
    )


async def soak(target: Process, endpoint: Process, tally: Path, args: argparse.Namespace) -> bool:
    """Prints the table; returns whether nothing leaked and nothing went wrong."""
    seen = Seen()
    period_s = args.minutes * 60 / args.looks
    rests = [look(target, endpoint, tally)]
    print("| minute | memory MB | tasks | files | open calls | requests |\n|---|---|---|---|---|---|")
    _row(0, rests[0], seen)
    for number in range(args.looks):
        until_s = time.monotonic() + period_s - REST_S
        chances = [random.Random(number * 1000 + index) for index in range(args.clients)]
        await asyncio.gather(*(keep_asking(target.base_url, chance, until_s, seen) for chance in chances))
        await asyncio.sleep(REST_S)
        rests.append(look(target, endpoint, tally))
        _row((number + 1) * period_s / 60, rests[-1], seen)
    return _judge(rests, seen)


def _row(minute: float, rest: Rest, seen: Seen) -> None:
    requests = seen.how.total()
    numbers = f"{rest.rss_mb:.1f} | {rest.tasks} | {rest.files} | {rest.open_calls} | {requests:,}"
    print(f"| {minute:.1f} | {numbers} |", flush=True)


def _judge(rests: list[Rest], seen: Seen) -> bool:
    before, warm, last = rests[0], rests[1], rests[-1]
    growth = max(rest.rss_mb for rest in rests[1:]) / warm.rss_mb - 1
    print("\n" + ", ".join(f"{count:,} {how}" for how, count in sorted(seen.how.items())))
    print(f"\nmemory: at most {growth:+.1%} beyond the first look under load (target 10 %)")
    leaked = (last.tasks - before.tasks, last.files - before.files, last.open_calls)
    print("leaked: {} tasks, {} files, {} calls".format(*leaked))
    print(f"wrong: {len(seen.wrong)}")
    for text in seen.wrong[:10]:
        print(f"  {text}")
    return not any(leaked) and not seen.wrong


@contextmanager
def counting_tasks(tally: Path) -> Iterator[None]:
    """Writes the number of tasks of the running loop to a file on SIGUSR1."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: tally.write_text(str(len(asyncio.all_tasks()))))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


def serve(tally: Path, config: Path) -> None:
    """Runs the server as it is, with a count of its tasks."""
    from stairstream.cli import serve as command
    from stairstream.server import serve as server

    original = server.serve

    async def watched(*given: object) -> object:
        with counting_tasks(tally):
            return await original(*given)  # type: ignore[arg-type]

    server.serve = watched  # type: ignore[assignment]
    command.serve(config, None, None, None)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=positive, default=30)
    parser.add_argument("--clients", type=one_or_more, default=40)
    parser.add_argument("--looks", type=one_or_more, default=10)
    parser.add_argument("--serve", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(*args.serve)
        return
    use_two_cores()
    is_clean = False
    with upstream(tokens=60, first_s=0.05, token_s=0.01, faults=0.05) as endpoint:
        tally = Path(f"/tmp/stairstream-soak-{os.getpid()}")
        try:
            with our_server(endpoint, ("bench.server_soak", "--serve", str(tally))) as target:
                is_clean = asyncio.run(soak(target, endpoint, tally, args))
        finally:
            tally.unlink(missing_ok=True)
    raise SystemExit(0 if is_clean else 1)


if __name__ == "__main__":
    main()
