"""A record of the ledger counts for its own call alone."""

from __future__ import annotations

import pytest

from tl_data.ledger.models import Call, Unreadable, entry_of

MINE = Call("summary", "sha256:a", {"type": "summary", "temperature": 0.2, "skipped": None}, "pegasus1.5")
OTHER = Call("summary", "sha256:b", {"type": "summary"}, "pegasus1.5")
INDEX = Call("index", "sha256:a", {"index_id": "i"}, "marengo3.0")


@pytest.mark.parametrize("call", [MINE, OTHER, INDEX])
def test_a_record_is_read_where_it_belongs(call: Call) -> None:
    entry = entry_of(call.key, "done", 1, call.described(), "text")
    assert (entry.operation, entry.content_key, entry.result) == (call.operation, call.content_key, "text")


@pytest.mark.parametrize("other", [OTHER, INDEX])
def test_a_record_of_another_call_is_not_taken(other: Call) -> None:
    with pytest.raises(Unreadable):
        entry_of(MINE.key, "done", 1, other.described(), "text")


@pytest.mark.parametrize(
    "result", [None, [], "text", 5, {}, {"video_id": "v"}, {"video_id": 5, "index_id": "i"}]
)
def test_a_result_of_another_form_is_not_taken(result: object) -> None:
    with pytest.raises(Unreadable):
        entry_of(INDEX.key, "done", 1, INDEX.described(), result).record("video_id", "index_id")
