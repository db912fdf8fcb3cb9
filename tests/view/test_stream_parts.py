"""The parts of a stream: numbers that outlive the signatures, ranges, sizes, redirects."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted import KEY, Server, say, scripted_server
from tests.view.conftest import Served
from tests.view.test_view import get
from tl_data.connection import connect
from tl_data.errors import MediaRefused, TLDataError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import VIDEOS
from tl_data.settings import Settings
from tl_data.view.app import Viewer
from tl_data.view.snapshot import LakeFolder
from tl_data.view.streams import MAX_STREAMS, Streams

TILE = {"id": "a", "video_id": "v", "record": {"index_id": "i"}}
VIDEO = "GET /indexes/i/videos/v"


@pytest.fixture
def server() -> Iterator[Server]:
    """The platform, which is the host of the stream as well."""
    with scripted_server() as server:
        yield server


@pytest.fixture
def settings(server: Server) -> Iterator[Settings]:
    settings = Settings(api_key=KEY, base_url=server.url, timeout=5.0, retries=0, max_wait=5.0)
    yield settings
    connect(settings).close()


def signed(server: Server, address: str, signature: str) -> str:
    return f"{server.origin}{address}?Policy=p&Key-Pair-Id=k&Signature={signature}"


def tell_stream(server: Server, *signatures: str) -> None:
    """A master playlist, one of segments, and two segments; the addresses are signed anew each time."""
    videos = [say(200, {"_id": "v", "hls": {"video_url": signed(server, "/m.m3u8", s)}}) for s in signatures]
    server.tell(VIDEO, *videos)
    masters = [f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{signed(server, '/l.m3u8', s)}" for s in signatures]
    server.tell("GET /m.m3u8", *(say(200, m.encode()) for m in masters))
    lists = [
        "\n".join(
            ("#EXTM3U", *(f"#EXTINF:6,\n{signed(server, f'/{n}.ts', s)}" for n in (0, 1)), "#EXT-X-ENDLIST")
        )
        for s in signatures
    ]
    server.tell("GET /l.m3u8", *(say(200, text.encode()) for text in lists))
    for n in (0, 1):
        server.tell(f"GET /{n}.ts", say(200, bytes([0x47, n]) * 50, content_type="video/mp2t"))


def numbers(body: bytes) -> list[int]:
    return [int(number) for number in re.findall(r"&n=(\d+)", body.decode())]


def test_the_numbers_of_segments_outlive_the_signatures(server: Server, settings: Settings) -> None:
    tell_stream(server, "first", "second")
    streams = Streams(settings)
    [variant] = numbers(streams.fetch(TILE).body)
    segments = numbers(streams.fetch(TILE, variant).body)
    assert len(segments) == 2
    streams.url_seconds = 0.0  # the signatures are old from now on
    assert [streams.fetch(TILE, n).body[1] for n in segments] == [0, 1]
    used = [dict(server.asked(f"GET /{n}.ts")[-1].query)["Signature"] for n in (0, 1)]
    assert used == ["second", "second"]
    assert numbers(streams.fetch(TILE, variant).body) == segments


def test_a_variant_that_is_gone_does_not_break_the_stream(server: Server, settings: Settings) -> None:
    tell_stream(server, "first", "second")
    streams = Streams(settings)
    [variant] = numbers(streams.fetch(TILE).body)
    streams.fetch(TILE, variant)
    server.tell("GET /l.m3u8", say(404))
    streams.url_seconds = 0.0  # the signatures are old from now on
    assert numbers(streams.fetch(TILE).body) == [variant]
    with pytest.raises(MediaRefused):
        streams.fetch(TILE, variant)
    assert len(server.asked("GET /l.m3u8")) == 3, "renewed once more, then fetched"


def test_a_stream_that_is_gone_is_refused(server: Server, settings: Settings) -> None:
    tell_stream(server, "first", "second")
    streams = Streams(settings)
    streams.fetch(TILE)
    server.tell("GET /m.m3u8", say(404))
    streams.url_seconds = 0.0
    for _ in range(2):
        with pytest.raises(MediaRefused):
            streams.fetch(TILE)


def test_parts_are_renewed_once_while_several_wait(server: Server, settings: Settings) -> None:
    tell_stream(server, "first")
    streams = Streams(settings)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(streams.fetch(TILE).body)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [numbers(body) for body in found] == [[1]] * 4
    assert len(server.asked(VIDEO)) == 1


def test_parameters_that_tell_segments_apart_are_no_signature(server: Server, settings: Settings) -> None:
    server.tell(VIDEO, say(200, {"_id": "v", "hls": {"video_url": f"{server.origin}/m.m3u8"}}))
    server.tell("GET /m.m3u8", say(200, b"#EXTM3U\n/s.ts?token=one\n/s.ts?token=two\n/s.ts?token=one"))
    first, second, third = numbers(Streams(settings).fetch(TILE).body)
    assert first == third != second


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest",
        "http://localhost:1/x.ts",
        "https://127.0.0.1/x.ts",
        "s3://bucket/x.ts",
    ],
)
def test_no_redirect_leaves_the_host(server: Server, settings: Settings, location: str) -> None:
    tell_stream(server, "first")
    server.tell("GET /m.m3u8", say(302, location=location))
    with pytest.raises(MediaRefused) as refused:
        Streams(settings).fetch(TILE)
    assert refused.value.code == "video_url_not_allowed"


@pytest.mark.parametrize("line", ["s3://bucket/x.ts", "http://localhost:1/x.ts", "http://[x/y.ts"])
def test_no_line_of_a_playlist_leaves_the_host(server: Server, settings: Settings, line: str) -> None:
    tell_stream(server, "first")
    server.tell("GET /m.m3u8", say(200, f"#EXTM3U\n{line}".encode()))
    with pytest.raises(TLDataError):
        Streams(settings).fetch(TILE)


def test_a_bucket_is_no_stream(server: Server, settings: Settings) -> None:
    server.tell(VIDEO, say(200, {"_id": "v", "hls": {"video_url": "s3://bucket/m.m3u8"}}))
    with pytest.raises(MediaRefused) as refused:
        Streams(settings).fetch(TILE)
    assert refused.value.code == "video_url_invalid"


def test_relative_addresses_belong_to_the_address_after_redirects(server: Server, settings: Settings) -> None:
    tell_stream(server, "first")
    server.tell("GET /m.m3u8", say(302, location="/deep/m.m3u8"))
    server.tell("GET /deep/m.m3u8", say(200, b"#EXTM3U\n0.ts"))
    server.tell("GET /deep/0.ts", say(200, b"\x47deep"))
    streams = Streams(settings)
    [segment] = numbers(streams.fetch(TILE).body)
    assert streams.fetch(TILE, segment).body == b"\x47deep"


@pytest.mark.parametrize("honoured", [True, False])
def test_a_range_of_a_segment(
    server: Server, settings: Settings, tmp_path: Path, serve: Callable[[Viewer], Served], honoured: bool
) -> None:
    tell_stream(server, "first")
    if honoured:
        server.tell("GET /0.ts", say(206, b"34", content_range="bytes 3-4/10"))
    else:
        server.tell("GET /0.ts", say(200, b"0123456789"))
    row = {"source_key": "gone", "url": str(tmp_path / "gone.mp4"), "status": "ready"}
    row |= {"video_id": "v", "index_id": "i"}
    Lake(str(tmp_path / "lake")).table(VIDEOS).append(rows_of(VIDEOS, [row]))
    served = serve(Viewer(LakeFolder(str(tmp_path / "lake")), "ranges", settings))
    bytes_3_4 = {"Range": "bytes=3-4"}
    status, _, body = get(served, "stream", id="v", headers=bytes_3_4)
    assert status == 200  # a playlist is never a part
    [variant] = numbers(body)
    status, _, body = get(served, "stream", id="v", n=variant, headers=bytes_3_4)
    segment = numbers(body)[0]
    status, headers, body = get(served, "stream", id="v", n=segment, headers=bytes_3_4)
    assert (status, body, headers["content-range"]) == (206, b"34", "bytes 3-4/10")
    assert server.asked("GET /0.ts")[-1].headers["range"] == "bytes=3-4"
    if not honoured:
        status, headers, body = get(served, "stream", id="v", n=segment, headers={"Range": "bytes=10-"})
        assert (status, body, headers["content-range"]) == (416, b"", "bytes */10")
        status, _, body = get(served, "stream", id="v", n=segment, headers={"Range": "bytes=-3"})
        assert (status, body) == (206, b"789")


def test_the_streams_used_longest_ago_are_forgotten(server: Server, settings: Settings) -> None:
    tell_stream(server, "first")
    streams = Streams(settings)
    for number in range(MAX_STREAMS):
        streams.fetch(TILE | {"id": str(number)})
    assert streams.fetch(TILE | {"id": "0"}, 1).status == 200
    streams.fetch(TILE)  # the next one
    assert streams.fetch(TILE | {"id": "0"}, 1).status == 200
    with pytest.raises(MediaRefused) as refused:
        streams.fetch(TILE | {"id": "1"}, 1)
    assert refused.value.code == "unknown_part"
