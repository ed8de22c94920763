"""What a status means, what an error says in every dress, and when to come back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairstream.backends.problems import Problem, problem_of, read_problem
from stairstream.backends.statuses import retry_after_s, status_error
from stairstream.core.errors import (
    BackendError,
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
