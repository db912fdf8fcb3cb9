"""What is known of the length of videos before they are asked about."""

from __future__ import annotations

from pathlib import Path

from tests.support.library import Library
from tl_data.connection import connect
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.media.preflight import BYTES_A_SECOND, Lengths


def test_only_the_latest_are_kept() -> None:
    lengths = Lengths(maximum=2)
    for video, seconds in {"a": 1.0, "b": 2.0, "c": 3.0}.items():
        lengths.keep(video, seconds)
    lengths.keep("d", None)
    assert [lengths.of(video) for video in "abcd"] == [None, 2.0, 3.0, None]


def test_a_file_is_about_as_long_as_it_is_large(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(bytes(BYTES_A_SECOND))
    lengths = Lengths()
    assert lengths.about(str(file)) == 1.0
    lengths.keep(str(file), 7.0)
    assert lengths.about(str(file)) == 7.0
    for unknown in (None, "https://example.com/a.mp4", "0" * 24, "a\0b", str(tmp_path / "b.mp4")):
        assert lengths.about(unknown) is None


def test_listed_videos_are_not_requested_again(library: Library, tmp_path: Path) -> None:
    """An analysis is billed by the length of its video, which a listing contains."""
    connection = connect(library.settings.but(ledger=str(tmp_path / "ledger")))
    lengths = connection.session.lengths
    batches = connection.batches(LISTINGS["videos"], index_id=library.index)
    listed = {row["video_id"]: row["duration_sec"] for batch in batches for row in batch.to_pylist()}
    assert listed
    assert {video: lengths.about(video) for video in listed} == listed
    route = "GET /indexes/{index_id}/videos/{video_id}"
    assert route in library.stats()["requests"]
    before = library.requests(route)
    rows = [{"video": video, "index_id": library.index} for video in listed]
    outcomes = list(connection.map(FUNCTIONS["gist"], rows))
    assert [round(o.receipt.video_minutes * 60, 3) for o in outcomes] == [
        round(s, 3) for s in listed.values()
    ]
    assert library.requests(route) == before
    connection.close()
