"""Answers read: which error they are, and how long they ask us to wait."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_data import errors
from tl_data.client.responses import decoded, error_from, unreadable
from tl_data.ratelimit.headers import wait_hint

NOW = datetime(2025, 11, 7, 22, 11, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("parameter_invalid", 400, errors.BadRequest),
        ("parameter_not_provided", 400, errors.BadRequest),
        ("parameter_unknown", 400, errors.BadRequest),
        ("resource_not_exist", 400, errors.NotFound),
        ("resource_not_exists", 404, errors.NotFound),
        ("not_found", 404, errors.NotFound),
        ("api_key_invalid", 401, errors.NotAllowed),
        ("tags_not_allowed", 400, errors.BadRequest),
        ("api_upgrade_required", 400, errors.BadRequest),
        ("too_many_requests", 429, errors.RateLimited),
        ("api_allowed_for_paid_plan", 403, errors.NotAllowed),
        ("unauthorized", 401, errors.NotAllowed),
        ("request_canceled_or_timed_out", 499, errors.ServerFailed),
        ("request_canceled_or_timed_out", 408, errors.ServerFailed),
        ("index_name_already_exists", 409, errors.BadRequest),
        ("usage_limit_exceeded", 400, errors.QuotaExhausted),
        ("insufficient_funds", 400, errors.QuotaExhausted),
        ("search_page_token_expired", 400, errors.BadRequest),
        ("video_not_ready", 400, errors.BadRequest),
        ("endpoint_deprecated", 410, errors.NotFound),
        ("read_not_allowed", 403, errors.NotAllowed),
        ("video_duration_too_short", 400, errors.MediaRefused),
        ("video_resolution_invalid_aspect_ratio", 400, errors.MediaRefused),
        ("video_file_broken", 400, errors.MediaRefused),
        ("a_code_of_tomorrow", 422, errors.BadRequest),
        ("a_code_of_tomorrow", 500, errors.ServerFailed),
        (None, 402, errors.QuotaExhausted),
        (None, 413, errors.BadRequest),
        (None, 503, errors.ServerFailed),
    ],
)
def test_code_and_status_make_the_class(code: str | None, status: int, kind: type) -> None:
    body = b'{"code": "%s", "message": "What happened."}' % code.encode() if code else b""
    error = error_from(status, {"x-trace-id": "req-1"}, body, "POST /tasks", NOW)
    assert type(error) is kind
    assert (error.code, error.http_status, error.request_id) == (code, status, "req-1")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.request_id) == (kind, str(error), "req-1")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{"code": "c", "message": "Flat."}', "c", "Flat. (c, HTTP 400, request r)"),
        (b'{"error": {"code": "c", "message": "Nested", "details": {}}}', "c", "Nested. (c"),
        (b'{"error_code": 17, "message": "Numeric."}', "17", "Numeric. (17"),
        (b'{"message": "No code."}', None, "No code. (BadRequest, HTTP 400"),
        (b'{"error": "Only text"}', None, "Only text."),
        (b'{"detail": "Of a framework"}', None, "Of a framework."),
        (b"", None, "GET /x returned HTTP 400 with an empty body"),
        (b"[1, 2]", None, "6 bytes that are not the expected JSON"),
        (
            b"<html><head><title>Bad\nGateway</title>",
            None,
            'an HTML page titled "Bad\nGateway" instead of JSON',
        ),
        (b"\xff\xfe\x00", None, "3 bytes that are not the expected JSON"),
        (
            b'{"code": "c", "message": "M.", "docs_url": "https://docs"}',
            "c",
            "M. (c, HTTP 400, request r, https://docs)",
        ),
    ],
)
def test_every_shape_of_body_gives_a_sentence(body: bytes, code: str | None, words: str) -> None:
    error = error_from(400, {"x-trace-id": "r"}, body, "GET /x", NOW)
    assert error.code == code
    assert words in str(error)


@pytest.mark.parametrize("body", [b"", b"404 page not found", b'{"detail": "Not Found"}'])
def test_a_404_that_is_not_in_the_words_of_the_api_questions_the_address(body: bytes) -> None:
    assert "Check TL_BASE_URL" in str(error_from(404, {}, body, "GET /indexes"))


def test_an_error_says_what_to_do_and_no_secrets() -> None:
    body = b'{"code": "api_key_invalid", "message": "Key tlk_ABC123 at https://b.s3/v.mp4?X-Amz-Signature=ab12&x=1"}'
    text = str(error_from(401, {}, body, "GET /indexes"))
    assert "Set TL_API_KEY" in text
    assert "tlk_ABC123" not in text
    assert "ab12" not in text
    assert "x=1" in text


def test_a_page_instead_of_an_answer_is_a_failing_server() -> None:
    error = unreadable(200, {}, b"<!doctype html><title>Sign in</title>", "GET /indexes")
    assert isinstance(error, errors.ServerFailed)
    assert 'titled "Sign in"' in str(error)
    assert "TL_BASE_URL" in str(error)


CAPTURED = (
    "You have exceeded the rate limit (100req/1day). Please try again later after 2025-11-08T01:20:49Z."
)


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "11382"}, "", 11382),
        ({"retry-after": "0.25"}, "", 0.25),
        ({"retry-after": "-3"}, "", 0),
        ({"retry-after": "Fri, 07 Nov 2025 22:11:27 GMT"}, "", 20),
        ({"retry-after": "Fri, 07 Nov 2025 20:00:00 GMT"}, "", 0),
        ({"retry-after": "2025-11-07T22:11:17Z"}, "", 10),
        ({"x-ratelimit-reset": "1762564849"}, "", 1762564849 - NOW.timestamp()),
        ({"x-ratelimit-reset": "1762564849000"}, "", 1762564849 - NOW.timestamp()),
        ({"x-ratelimit-request-reset": "30"}, "", 30),
        ({"x-ratelimit-request-reset": "30", "x-ratelimit-duration-reset": "900"}, "", 30),
        (
            {
                "x-ratelimit-request-reset": "30",
                "x-ratelimit-request-remaining": "4",
                "x-ratelimit-duration-reset": "900",
                "x-ratelimit-duration-remaining": "0",
            },
            "",
            900,
        ),
        ({}, CAPTURED, 11382),
        ({"retry-after": "soon"}, CAPTURED, 11382),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "inf"}, "", None),
        ({}, "", None),
        # the clock of the server counts, not ours
        ({"retry-after": "Fri, 07 Nov 2025 23:00:10 GMT", "date": "Fri, 07 Nov 2025 23:00:00 GMT"}, "", 10),
    ],
)
def test_the_wait_hint_in_all_its_shapes(
    headers: dict[str, str], message: str, seconds: float | None
) -> None:
    assert wait_hint(headers, message, NOW) == seconds


@given(seconds=st.integers(0, 10**6))
def test_the_shapes_agree(seconds: int) -> None:
    at = NOW + timedelta(seconds=seconds)
    shapes = [
        ({"retry-after": str(seconds)}, ""),
        ({"retry-after": format_datetime(at, usegmt=True)}, ""),
        ({"x-ratelimit-reset": str(int(at.timestamp()))}, ""),
        ({"x-ratelimit-outputtoken-reset": str(int(at.timestamp()))}, ""),
        ({}, f"Please try again later after {at:%Y-%m-%dT%H:%M:%SZ}."),
        ({}, f"Please try again later after {at.isoformat()}."),
    ]
    assert {wait_hint(headers, message, NOW) for headers, message in shapes} == {float(seconds)}


@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "date",
                "x-ratelimit-reset",
                "x-ratelimit-request-reset",
                "x-ratelimit-request-remaining",
            ]
        ),
        st.text() | st.floats().map(str) | st.datetimes().map(str),
    ),
    message=st.text() | st.text().map(lambda t: f"try again later after {t}"),
)
def test_no_hint_is_too_odd(headers: dict[str, str], message: str) -> None:
    seconds = wait_hint(headers, message, NOW)
    assert seconds is None or seconds >= 0


@given(st.binary())
def test_no_body_is_too_odd(body: bytes) -> None:
    value = decoded(body)
    assert value is None or isinstance(value, dict)
    error = error_from(500, {}, body, "GET /x", NOW)
    assert isinstance(error, errors.TLDataError)
    assert str(error)
