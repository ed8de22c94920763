"""`stairstream watch`: a run drawn from a file or from a server, and what is said when it can't be."""

import asyncio
import io
import re
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from rich.cells import cell_len
from rich.console import Console

from stairstream.cli.attaching import read_address
from stairstream.cli.live import View, show_events
from stairstream.cli.main import main
from stairstream.cli.telling import Told
from stairstream.core.errors import RequestError
from stairstream.core.events import Thought, Wrote
from stairstream.core.lanes import make_lanes
from stairstream.core.policy import Policy
from stairstream.core.topologies import chain
from stairstream.server.wire.events import encode_event_line
from stairstream.sim.clock import run
from tests.engine.staircase import mixture, play, scripted
from tests.page.serving import served

Captured = pytest.CaptureFixture[str]

RUN = "0123456789abcdef"
GRAPH = mixture(Policy(first_chunk=4, growth=2, quorum="all", patience_s=0))

_, EVENTS = play(GRAPH, scripted())


def words(event: Wrote | Thought) -> str:
    return "".join(f"{number % 10}" for number in range(event.start, event.end))


def lines_of(say: str = "") -> list[bytes]:
    """The events of a run of a mixture as lines; `say` stands in its first words."""
    lines = [encode_event_line(event, words).rstrip() for event in EVENTS]
    return [line.replace(b'"text":"0', b'"text":"0' + say.encode(), 1) for line in lines]


LINES = lines_of()


def stream(lines: Sequence[bytes], first: int = 0, *, is_cut: bool = False) -> bytes:
    """An answer with these events; one that is cut ends in the middle of a chunk."""
    body = b"".join(b"id: %d\ndata: %s\n\n" % (number, line) for number, line in enumerate(lines, first))
    body = body or b": still at it\n\n"
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    return (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + (chunk + b"ff\r\n: st" if is_cut else chunk + b"0\r\n\r\n")
    )


def whole(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def error(status: str, message: str) -> bytes:
    return whole(status, b'{"error": {"message": "%s"}}' % message.encode())


@contextmanager
def serving(*answers: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers, a connection each; its URL, and the heads of the requests that came."""
    heads: list[str] = []
    left = list(answers)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    port = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body = await reader.readexactly(int((re.findall(r"(?i)content-length: (\d+)", head) or [0])[0]))
        heads.append(head + body.decode())
        writer.write(left.pop(0))
        await writer.drain()
        writer.close()

    async def main() -> None:
        nonlocal port
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            loop.call_soon(ready.set)
            await stopping.wait()

    stopping = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{port}", heads
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


def test_file_of_events_is_drawn_at_once(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "run.jsonl").write_bytes(b"\n".join(LINES) + b"\n")
    assert main(["watch", str(tmp_path / "run.jsonl")]) == 0
    printed = capsys.readouterr().out.splitlines()
    lanes = [line for line in printed if line.startswith(("agg", "p1", "p2", "p3"))]
    assert [line.split()[0] for line in lanes] == ["agg", "p1", "p2", "p3"]
    assert lanes[0].count("▲") == 2 and lanes[0].endswith("16")
    assert printed[-1].startswith("first token ") and printed[-1].endswith(", 2 updates")
    assert "\x1b" not in "".join(printed)


def test_run_of_a_server_is_told_in_lines_where_the_output_is_no_terminal(capsys: Captured) -> None:
    with serving(stream(LINES)) as (url, heads):
        assert main(["watch", RUN, "--server", url]) == 0
    printed = capsys.readouterr().out
    assert heads[0].startswith(f"GET /v1/runs/{RUN}/events HTTP/1.1")
    assert "agg: first token" in printed and "agg: update 1: " in printed and "p1: ended: stop" in printed


def test_lost_connection_is_made_again_behind_the_last_event(capsys: Captured) -> None:
    with serving(stream(LINES[:6], is_cut=True), stream(LINES[6:], 6)) as (url, heads):
        assert main(["watch", f"{url}/v1/runs/{RUN}/events"]) == 0
    assert "last-event-id" not in heads[0].lower()
    assert "last-event-id: 5\r\n" in heads[1].lower()
    assert capsys.readouterr().out.count("agg: first token") == 1


@pytest.mark.slow
def test_server_that_is_busy_for_a_moment_is_asked_again() -> None:
    with serving(
        stream(LINES[:6], is_cut=True), error("503 Service Unavailable", "stopping"), stream(LINES[6:], 6)
    ) as (url, heads):
        assert main(["watch", RUN, "--server", f"{url}/v1/"]) == 0
    assert len(heads) == 3


def test_run_that_is_over_comes_from_the_history(capsys: Captured) -> None:
    with serving(error("404 Not Found", "no run"), whole("200 OK", b"\n".join(LINES))) as (url, heads):
        assert main(["watch", f"chatcmpl-{RUN}", "--server", url]) == 0
    assert heads[1].startswith(f"GET /v1/history/{RUN}?format=jsonl HTTP/1.1")
    assert "first token" in capsys.readouterr().out


def test_run_that_ended_while_the_connection_was_lost_is_completed_from_the_history() -> None:
    answers = stream(LINES[:6], is_cut=True), error("404 Not Found", "no run"), whole("200 OK", b"\n".join(LINES))
    with serving(*answers) as (url, _):
        assert main(["watch", RUN, "--server", url]) == 0


def test_run_that_is_gone_is_drawn_as_far_as_it_was_seen(capsys: Captured) -> None:
    gone = error("404 Not Found", "no run")
    with serving(stream(LINES[:9], is_cut=True), gone, gone) as (url, _):
        assert main(["watch", RUN, "--server", url]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "the run is gone" in printed.err


def test_key_goes_with_every_request_and_into_no_message(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAIRSTREAM_API_KEY", "sk-stair-secret")
    denied = error("401 Unauthorized", "the API key sk-stair-secret is unknown")
    with serving(denied) as (url, heads):
        assert main(["watch", RUN, "--server", url]) == 1
    said = capsys.readouterr().err
    assert "authorization: bearer sk-stair-secret\r\n" in heads[0].lower()
    assert said.count("\n") == 1 and "secret" not in said and "--key-file" in said
    (tmp_path / "key").write_text("sk-stair-other\n")
    with serving(error("404 Not Found", "no run"), stream(LINES)) as (url, heads):
        assert main(["watch", RUN, "--server", url, "--key-file", str(tmp_path / "key")]) == 2
    assert all("sk-stair-other" in head for head in heads)


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([error("404 Not Found", "there is no run"), error("404 Not Found", "off")], 2, "there is no run"),
        ([whole("404 Not Found", b"<html>"), whole("404 Not Found", b"")], 2, "a web page"),
        ([whole("302 Found", b"")], 1, "is it a stairstream server?"),
        ([stream([b'{"type": "nothing"}'])], 2, "line 1 is no event of a run"),
        ([stream([LINES[1]])], 2, "line 1 is of an agent that the run has not"),
        ([stream([LINES[0], LINES[0]])], 2, "line 2 begins another run"),
        ([b"SSH-2.0-x\r\n\r\n"], 1, "the answer is not HTTP"),
        ([b""], 1, "the connection was lost"),
    ],
)
def test_what_is_wrong_is_one_line(answers: list[bytes], code: int, said: str, capsys: Captured) -> None:
    with serving(*answers) as (url, _):
        assert main(["watch", RUN, "--server", url]) == code
    printed = capsys.readouterr()
    assert printed.err.startswith("stairstream: error: ") and printed.err.count("\n") == 1
    assert said in printed.err


def test_server_that_is_not_there_is_one_line(capsys: Captured) -> None:
    assert main(["watch", RUN, "--server", "http://127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == ("stairstream: error: 127.0.0.1:1: connection refused; is the server running?\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no such file.jsonl"],
        ["http://127.0.0.1/v1/models"],
        ["http://:x/v1/runs/a"],
        [RUN, "--server", "127.0.0.1:8080"],
        [RUN, "--key-file", "nowhere"],
    ],
)
def test_what_is_no_run_is_refused(arguments: list[str], capsys: Captured) -> None:
    assert main(["watch", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_addresses_of_a_run() -> None:
    for given in ("http://h:8080/v1/runs/abc/events", "http://h:8080/v1/runs/abc", "http://h:8080/v1/history/abc"):
        address = read_address(given, "http://other", None)
        assert (address.server, address.run_id) == ("http://h:8080", "abc")
    assert read_address("https://h/under/v1/runs/abc", "http://other", None).server == "https://h/under"
    assert read_address("resp_abc", "http://h:1/v1", None).server == "http://h:1"
    with pytest.raises(RequestError):
        read_address("../etc", "http://h", None)


def test_file_that_is_empty_or_cut_off_is_told(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").write_text("\n")
    assert main(["watch", str(tmp_path / "empty")]) == 2
    (tmp_path / "cut").write_bytes(b"\n".join(LINES[:9]))
    assert main(["watch", str(tmp_path / "cut")]) == 0
    assert "the run is not over" in capsys.readouterr().out
    (tmp_path / "torn").write_bytes(b"\n".join(LINES[:9]) + b'\n{"type": "wro')
    assert main(["watch", str(tmp_path / "torn")]) == 2
    assert "line 10 is no event of a run" in capsys.readouterr().err


def test_what_would_steer_the_terminal_is_seen_instead(tmp_path: Path, capsys: Captured) -> None:
    lines = lines_of(r"\u001b]0;owned\u0007\u009b31m\u202e")
    (tmp_path / "run.jsonl").write_bytes(b"\n".join(lines).replace(b'"agg"', rb'"a\u001b[2Jg"'))
    assert main(["watch", str(tmp_path / "run.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & {*printed}
    assert "␛[2Jg" in printed


async def told() -> AsyncIterator[Told]:
    before_s = 0.0
    for event in EVENTS:
        await asyncio.sleep(event.at_s - before_s)
        before_s = event.at_s
        yield event, words(event) if isinstance(event, Wrote) else ""


@pytest.mark.parametrize("columns", [30, 80])
def test_terminal_is_redrawn_while_the_run_goes_on_and_never_wider_than_it_is(columns: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=columns, height=20, no_color=True, highlight=False)
    view = View(console, make_lanes(GRAPH), GRAPH.answer)

    async def go() -> None:
        await show_events(console, view, told())

    run(go())
    pictures = out.getvalue().split("\x1b[2K")
    assert len(pictures) > 10
    last = out.getvalue().splitlines()[-8:]
    assert max(cell_len(line) for line in last if "\x1b" not in line) <= columns


def test_lanes_stand_in_the_order_of_reading_once_that_is_known() -> None:
    graph = chain(["draft", "critique", "final"])
    console = Console(file=io.StringIO(), width=80)
    names = [agent.name for agent in graph.agents]
    _, events = play(graph, {name: next(iter(scripted().values())) for name in {one.model for one in graph.agents}})
    lanes = make_lanes(graph)
    view = View(console, {name: lanes[name] for name in (graph.answer, *names[:-1])}, graph.answer)
    for event in events:
        view.add(event, "")
    assert list(view.lanes) == list(make_lanes(graph))


def test_address_has_no_key_in_its_repr() -> None:
    assert "secret" not in repr(read_address(RUN, "http://h", "sk-stair-secret"))


@pytest.mark.slow
def test_run_of_a_real_server_is_watched_while_it_goes_on_and_afterwards(tmp_path: Path, capsys: Captured) -> None:
    pytest.importorskip("uvicorn", reason="the extra `server` is not installed")
    file = tmp_path / "served.yaml"
    file.write_text(
        "models: {m: {backend: scripted, length: 40, first_token_s: 0.1, token_s: 0.05}}\n"
        "pipelines: {mix: {topology: mixture, proposers: [m, m], aggregator: m}}\n"
        f"server: {{history: true, database: '{tmp_path / 's.db'}'}}\n"
    )
    with served(file) as url:
        body = b'{"model": "mix", "messages": [{"role": "user", "content": "Why?"}]}'
        request = Request(f"{url}/v1/runs", body, {"content-type": "application/json"})
        with urlopen(request) as going:
            run_id = going.headers["x-stairstream-run"]
            assert main(["watch", run_id, "--server", url]) == 0
        live = capsys.readouterr().out
        assert main(["watch", f"{url}/v1/history/{run_id}"]) == 0
    assert "ended: stop" in live and ", 1 update" in " ".join(live.split())
    assert capsys.readouterr().out == live
