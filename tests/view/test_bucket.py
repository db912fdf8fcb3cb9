"""A lake and its videos in a bucket, of a real S3-compatible server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import obstore
from obstore.store import from_url

from tests.ledger.test_s3 import bucket
from tests.view.conftest import Served, make_lake
from tests.view.test_view import ask, get
from tl_data.view.app import Viewer
from tl_data.view.server import open_lake

__all__ = ["bucket"]  # fixtures


def test_a_lake_and_its_videos_in_a_bucket(
    bucket: str, video: Path, serve: Callable[[Viewer], Served]
) -> None:
    store = from_url(bucket, client_options={"allow_http": True})
    obstore.put(store, "videos/harbour.webm", video.read_bytes())
    make_lake(f"{bucket}/lake", lambda n: f"{bucket}/videos/{'harbour' if n == 0 else 'gone'}.webm", 2)
    served = serve(open_lake(f"{bucket}/lake"))
    assert ask(served, "api/videos", state="ready")["total"] == 2
    assert ask(served, "api/video", id="key-0")["play"]["kind"] == "bucket"
    assert get(served, "media", id="key-0")[2] == video.read_bytes()
    size = video.stat().st_size
    for asked, part in (("bytes=10-19", slice(10, 20)), ("bytes=-5", slice(size - 5, size))):
        status, headers, body = get(served, "media", {"Range": asked}, id="key-0")
        assert (status, body) == (206, video.read_bytes()[part])
        assert headers["content-range"].endswith(f"/{size}")
    assert get(served, "media", {"Range": f"bytes={size}-"}, id="key-0")[0] == 416
    assert get(served, "media", id="key-1")[0] == 502
