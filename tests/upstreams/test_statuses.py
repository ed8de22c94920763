"""Error responses over real HTTP: what is made again, and what a client of ours is told."""

import asyncio
import time
from collections.abc import Mapping

import pytest

from tests.server.driving import Got, client_of
from tests.upstreams.raw import FINE, FINE_TEXT, Says, data, delta, saying

CONFIG = """
models:
  odd: {{backend: openai, base_url: '{url}', model: odd, continues: flag, attempts: 2}}
pipelines:
  only: {{topology: single, model: odd}}
"""


def ask(first: Says) -> tuple[Got, int, float]:
    """An answer whose first call is answered so, and the second well; how many calls, and how long it took."""
    plans = [first, FINE]

    async def main() -> tuple[Got, int, float]:
        async with saying({"odd": lambda _: plans.pop(0)}) as upstream:
            async with client_of(CONFIG.format(url=upstream.base_url)) as client:
                begun_s = time.monotonic()
                got = await client.chat("only")
                return got, len(upstream.asked), time.monotonic() - begun_s

    return asyncio.run(main())


def refusal(status: str, headers: Mapping[str, str] | None = None) -> Says:
    told = {"content-type": "application/json", "retry-after-ms": "1", **(headers or {})}
    return Says(packets=(b'{"error":{"message":"not now"}}',), status=status, headers=told)


@pytest.mark.parametrize("status", ["408 Request Timeout", "409 Conflict", "425 Too Early", "499 Closed", "429 Busy"])
def test_what_may_pass_is_made_again(status: str) -> None:
    got, num_calls, _ = ask(refusal(status))
    assert (got.status, num_calls) == (200, 2)
    assert got.json()["choices"][0]["message"]["content"] == FINE_TEXT


@pytest.mark.parametrize(
    ("status", "headers", "word"),
    [
        ("402 Payment Required", {}, "credit"),
        ("302 Found", {"location": "https://else.where/v1"}, "https://else.where/v1"),
        ("401 Unauthorized", {}, "api_key"),
        ("405 Method Not Allowed", {}, "base_url"),
    ],
)
def test_what_is_not_the_clients_fault_is_a_502_with_its_reason(
    status: str, headers: Mapping[str, str], word: str
) -> None:
    got, num_calls, _ = ask(refusal(status, headers))
    assert (got.status, num_calls) == (502, 1)
    assert word in got.json()["error"]["message"]


def test_a_pause_in_milliseconds_is_kept() -> None:
    got, num_calls, lasted_s = ask(refusal("429 Busy", {"retry-after-ms": "300"}))
    assert (got.status, num_calls) == (200, 2)
    assert lasted_s >= 0.3


@pytest.mark.parametrize(("code", "status", "calls"), [(400, 400, 1), (401, 502, 1), (402, 502, 1), (503, 200, 2)])
def test_a_code_inside_a_200_is_treated_as_that_status(code: int, status: int, calls: int) -> None:
    got, num_calls, _ = ask(Says(packets=(data({"error": {"message": "no", "code": code}}),)))
    assert (got.status, num_calls) == (status, calls)


def test_an_error_body_that_never_ends_is_not_waited_for() -> None:
    open_end = Says(packets=(b"busy",), status="503 Busy", headers={"retry-after-ms": "1"}, end="open")
    got, num_calls, lasted_s = ask(open_end)
    assert (got.status, num_calls) == (200, 2)
    assert lasted_s < 5


def test_a_rejection_of_a_continued_answer_may_come_inside_a_200() -> None:
    late = Says(packets=(data({"error": {"message": "the last message must be of the user", "code": 400}}),))

    async def main() -> str:
        async with saying({"odd": lambda request: late if request.get("continue_final_message") else FINE}) as upstream:
            async with client_of(CONFIG.format(url=upstream.base_url)) as client:
                begun = {"role": "assistant", "content": "Well: "}
                messages = [{"role": "user", "content": "Why?"}, begun]
                got = await client.post("/v1/chat/completions", {"model": "only", "messages": messages})
                return str(got.json()["choices"][0]["message"]["content"])

    assert asyncio.run(main()).endswith(FINE_TEXT)


def test_an_odd_end_and_a_refusal_are_said_as_notes() -> None:
    refused = data({"choices": [{"index": 0, "delta": {"refusal": "No."}, "finish_reason": "nobody_knows"}]})
    got, _, _ = ask(Says(packets=(delta("Well. "), refused)))
    told = got.json()
    assert told["choices"][0]["message"]["content"] == "Well. No."
    notes = " ".join(note for agent in told["stairstream"]["agents"] for note in agent["notes"])
    assert "refus" in notes and "nobody_knows" in notes
