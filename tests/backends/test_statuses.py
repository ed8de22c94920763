"""What a status means, what an error says in every dress, and when to come back."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairstream.backends.problems import Problem, problem_of, read_problem
from stairstream.backends.statuses import retry_after_s, status_error
from stairstream.core.errors import (
    BackendError,
    ContextTooLong,
    NotAuthorized,
    NotServed,
    RateLimited,
    RequestRejected,
    ServerFailed,
    UnknownModel,
)
from stairstream.server.errors import error_of


@pytest.mark.parametrize(
    ("status", "expected", "is_retryable", "told"),
    [
        (301, NotServed, False, 502),
        (307, NotServed, False, 502),
        (400, RequestRejected, False, 400),
        (401, NotAuthorized, False, 502),
        (402, NotServed, False, 502),
        (404, UnknownModel, False, 502),
        (405, NotServed, False, 502),
        (408, ServerFailed, True, 502),
        (409, ServerFailed, True, 502),
        (413, RequestRejected, False, 400),
        (424, ServerFailed, True, 502),
        (425, ServerFailed, True, 502),
        (429, RateLimited, True, 429),
        (499, ServerFailed, True, 502),
        (500, ServerFailed, True, 502),
        (529, ServerFailed, True, 502),
    ],
)
def test_each_status_is_one_error_and_one_answer_of_ours(
    status: int, expected: type[BackendError], is_retryable: bool, told: int
) -> None:
    error = status_error(status, "why", "host (m)", {})
    assert type(error) is expected
    assert error.is_retryable == is_retryable
    assert str(status) in str(error)
    answer = error_of(error)
    assert answer.status == told and str(status) in answer.message


@pytest.mark.parametrize(
    ("status", "said", "is_retryable"), [(429, "false", False), (400, "true", True), (529, "", True)]
)
def test_an_endpoint_may_say_whether_to_try_again(status: int, said: str, is_retryable: bool) -> None:
    error = status_error(status, "a limit of money", "host (m)", {"x-should-retry": said} if said else {})
    assert error.is_retryable == is_retryable
    assert status_error(429, "", "host (m)", {}).is_retryable


def test_a_pause_until_the_reset_of_the_limit_that_is_used_up() -> None:
    def at(seconds: int) -> str:
        return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")

    headers = {"anthropic-ratelimit-requests-remaining": "9", "anthropic-ratelimit-requests-reset": at(900)}
    assert retry_after_s(headers) is None
    headers |= {"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": at(30)}
    assert 28 <= (retry_after_s(headers) or 0) <= 30
    assert retry_after_s({**headers, "Retry-After": "2"}) == 2


def test_no_credit_in_a_400_is_not_the_clients_fault() -> None:
    error = status_error(400, "Your credit balance is too low to access the API.", "host (m)", {})
    assert type(error) is NotServed and error_of(error).status == 502


def test_words_of_anthropic_for_its_own_trouble_have_their_status() -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}'
    assert read_problem(body) == Problem("Overloaded", 529)
    long = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"
    assert type(status_error(400, long, "host (m)", {})) is ContextTooLong


def test_a_redirect_says_where_it_leads_without_its_query() -> None:
    text = str(status_error(308, "", "host (m)", {"Location": "https://else.where/v1?key=secret"}))
    assert "https://else.where/v1;" in text and "secret" not in text


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-3"}, 0.0),
        ({"retry-after-ms": "2000"}, 2.0),
        ({"retry-after-ms": "2000", "Retry-After": "9"}, 2.0),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "9"}, 9.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 99 Foo 2015 07:28:00 GMT"}, None),
    ],
)
def test_a_pause_is_understood_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


@given(st.text(max_size=40))
def test_no_header_breaks_the_reading(value: str) -> None:
    seconds = retry_after_s({"Retry-After": value, "retry-after-ms": value})
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"error": {"message": "no", "code": 400}}, Problem("no", 400)),
        ({"error": {"message": "no", "code": "429"}}, Problem("no", 429)),
        ({"error": {"message": "no", "type": "authentication_error"}}, Problem("no", 401)),
        ({"error": {"message": "no", "code": "context_length_exceeded"}}, Problem("no", 400)),
        ({"error": "no", "error_type": "overloaded"}, Problem("no", None)),
        ([{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}], Problem("no", 400)),
        ({"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, Problem("no", 400)),
        ({"detail": [{"loc": ["x"], "msg": "no"}]}, Problem("no", None)),
        ({"error": {"code": 200, "message": "no"}}, Problem("no", None)),
        ({"status_code": 1002, "status_msg": "no"}, Problem("no", None)),
        ("no", Problem("no", None)),
        ({}, Problem("", None)),
        (7, Problem("", None)),
    ],
)
def test_a_problem_is_read_in_every_dress(said: object, problem: Problem) -> None:
    assert problem_of(said) == problem


@given(st.binary())
def test_any_bytes_make_a_problem(body: bytes) -> None:
    read_problem(body).message.encode(errors="replace")
