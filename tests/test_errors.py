"""Errors survive pickling, and their texts carry what their types cannot."""

from __future__ import annotations

import inspect
import pickle

import pytest

from tl_data import errors
from tl_data.errors import APIError, MediaRefused, MissingExtra, TaskFailed, TLDataError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, TLDataError)]


def made(kind: type[TLDataError]) -> TLDataError:
    if issubclass(kind, APIError):
        return kind("no such video", "not_found", 404, "req-1", 1.5, "https://docs.example.com")
    if issubclass(kind, MissingExtra):
        return kind("duckdb", "duckdb")
    return kind("something happened")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_survives_pickling(kind: type[TLDataError]) -> None:
    error = made(kind)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert (back.code, back.http_status, back.retryable) == (error.code, error.http_status, error.retryable)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not MissingExtra])
def test_no_error_shows_a_secret(kind: type[TLDataError]) -> None:
    """Whoever raises it, and also when the address was taken for a path."""
    for text in (
        "no https://u:PLANTED@e.com/v.mp4?X-Amz-Signature=PLANTED&token=PLANTED: try again",
        "no file  https:/u:PLANTED@e.com/v.mp4?sig=PLANTED",
        "bad key tlk_PLANTED",
    ):
        error = kind(text)
        shown = [str(error), repr(error), str(pickle.loads(pickle.dumps(error))), str(vars(error))]
        assert not any("PLANTED" in part for part in shown)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_is_in_the_drawn_tree(kind: type[TLDataError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__doc__


def test_the_text_carries_code_status_and_request() -> None:
    assert str(made(errors.NotFound)) == (
        "no such video (not_found, HTTP 404, request req-1, https://docs.example.com)"
    )
    assert (
        str(MediaRefused("too short", "video_duration_too_short")) == "too short (video_duration_too_short)"
    )
    assert str(TaskFailed("broken", "t1", "video_file_broken")) == "broken (video_file_broken, task t1)"
    assert str(MissingExtra("duckdb", "duckdb")) == (
        'duckdb is not installed. Type: pip install "tl_data[duckdb]"'
    )
