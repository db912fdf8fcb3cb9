"""Videos: listed with every filter, with vectors and words, their metadata changed, their stream played."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from tests.local.conftest import API, IndexedVideos, problem

NOWHERE = "0123456789abcdef01234567"
FACTS = {"filename", "duration", "fps", "width", "height", "size"}


def test_the_list_has_what_sdks_need(api: API, indexed: IndexedVideos) -> None:
    page = api.get(f"/indexes/{indexed.index_id}/videos").json()
    assert [video["_id"] for video in page["data"]] == indexed.videos[::-1]
    for video in page["data"]:
        assert {"_id", "created_at", "updated_at", "indexed_at", "system_metadata"} < set(video)
        assert video["user_metadata"]["number"]
        assert video["hls"]["status"] in ("PROCESSING", "COMPLETE")
        assert video["asset_id"] == video["_id"]  # made by /tasks: its asset has the same id
        assert set(video["system_metadata"]) == FACTS
        assert isinstance(video["system_metadata"]["width"], int)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"number": "2"}, [2]),
        ({"color": "blue"}, [3, 2]),
        ({"color": "blue", "good": "true"}, [3]),
        ({"good": "false", "sort_option": "asc"}, [1, 2]),
        ({"number": "2.0"}, [2]),
        ({"color": "green"}, []),
        ({"never": "there"}, []),
        ({"user_metadata": "{'color': 'blue', 'good': True}"}, [3]),
        ({"user_metadata": "{'number': 1}"}, [1]),
        ({"filename": "plain.mp4"}, [3, 2, 1]),
        ({"filename": "other.mp4"}, []),
        ({"width": "480", "height": "360"}, [3, 2, 1]),
        ({"fps[gte]": "11"}, []),
        ({"size[gte]": "1", "size[lte]": "1e9"}, [3, 2, 1]),
        ({"duration[lte]": "1"}, []),
        ({"page_limit": "1", "page": "2"}, [2]),
        ({"page": "4"}, []),
        ({"color') OR 1=1 --": "x"}, []),
    ],
)
def test_filters(api: API, indexed: IndexedVideos, query: dict[str, str], numbers: list[int]) -> None:
    answer = api.get(f"/indexes/{indexed.index_id}/videos", params=query)
    assert answer.status_code == 200
    assert [video["_id"] for video in answer.json()["data"]] == [indexed.videos[n - 1] for n in numbers]


@pytest.mark.parametrize(
    "query",
    [
        {"duration": "long"},
        {"duration[over]": "1"},
        {"created_at": "x"},
        {"updated_at[before]": "2026-01-01T00:00:00Z"},
        {"page": "-1"},
        {"sort_by": "size"},
        {"user_metadata": "open('x')"},
    ],
)
def test_bad_filters(api: API, indexed: IndexedVideos, query: dict[str, str]) -> None:
    assert problem(api.get(f"/indexes/{indexed.index_id}/videos", params=query)) == (400, "parameter_invalid")


def test_one_video(api: API, indexed: IndexedVideos) -> None:
    path = f"/indexes/{indexed.index_id}/videos/{indexed.videos[0]}"
    video = api.get(path).json()
    assert video["user_metadata"] == {"number": 1, "color": "red", "good": False}
    assert "embedding" not in video
    assert "transcription" not in video
    asked = api.get(path, params={"embedding_option": ["visual", "audio"], "transcription": "true"}).json()
    assert asked["embedding"]["model_name"] == "marengo3.0"
    assert asked["embedding"]["engine_model"] == "tl-local-2"
    assert {len(segment["float"]) for segment in asked["embedding"]["video_embedding"]["segments"]} == {512}
    segments = asked["embedding"]["video_embedding"]["segments"]
    assert {segment["embedding_option"] for segment in segments} <= {"visual", "audio"}
    assert {segment["embedding_scope"] for segment in segments} == {"clip", "video"}
    assert len({len(segment["float"]) for segment in segments}) == 1
    assert problem(api.get(path, params={"embedding_option": "smell"})) == (400, "parameter_invalid")
    assert problem(api.get(path, params={"transcription": "perhaps"})) == (400, "parameter_invalid")


def test_videos_that_are_not_there(api: API, indexed: IndexedVideos) -> None:
    other = api.new_index("other")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = {"json": {}} if method in ("PUT", "PATCH") else {}
        where = f"/indexes/{indexed.index_id}/videos"
        assert problem(api.request(method, f"{where}/{NOWHERE}", **body)) == (404, "not_found")
        assert problem(api.request(method, f"{where}/xyz", **body)) == (400, "parameter_invalid")
        assert problem(api.request(method, f"/indexes/{other}/videos/{indexed.videos[0]}", **body)) == (
            404,
            "not_found",
        )


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_metadata_is_merged_and_null_deletes(api: API, indexed: IndexedVideos, method: str) -> None:
    path = f"/indexes/{indexed.index_id}/videos/{indexed.videos[1]}"
    before = api.get(path).json()["user_metadata"]
    changes = {"rating": 4.5, "tags": ["a", "b"], "note": 'it\'s "fine"; DROP TABLE videos; --'}
    answer = api.request(method, path, json={"user_metadata": changes})
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.get(path).json()["user_metadata"] == before | changes
    assert (
        api.get(f"/indexes/{indexed.index_id}/videos", params={"rating": "4.5"}).json()["data"][0]["_id"]
        == indexed.videos[1]
    )
    api.request(method, path, json={"user_metadata": dict.fromkeys(changes)})
    assert api.get(path).json()["user_metadata"] == before


@pytest.mark.parametrize("metadata", ["text", [1], {"duration": 5}, {"a": {"b": 1}}, {"a": [1, 2]}])
def test_bad_metadata(api: API, indexed: IndexedVideos, metadata: Any) -> None:
    answer = api.patch(
        f"/indexes/{indexed.index_id}/videos/{indexed.videos[0]}", json={"user_metadata": metadata}
    )
    assert problem(answer) == (400, "parameter_invalid")


def test_the_stream_plays_and_the_thumbnails_show(api: API, indexed: IndexedVideos, tmp_path: Path) -> None:
    path = f"/indexes/{indexed.index_id}/videos/{indexed.videos[0]}"
    deadline = time.monotonic() + 60
    while (hls := api.get(path).json()["hls"])["status"] == "PROCESSING" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert hls["status"] == "COMPLETE"
    playlist = httpx.get(hls["video_url"])
    assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
    lines = playlist.text.splitlines()
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in lines
    longest = max(float(line[8:].rstrip(",")) for line in lines if line.startswith("#EXTINF:"))
    assert f"#EXT-X-TARGETDURATION:{math.ceil(longest)}" in lines
    # A player in a page of another origin: what it sends, and what it asks before.
    page = {"origin": "https://example.com"}
    before = page | {"access-control-request-method": "GET", "access-control-request-headers": "range"}
    for address in (hls["video_url"], *hls["thumbnail_urls"]):
        allowed = httpx.options(address, headers=before)
        assert (allowed.status_code, allowed.headers["access-control-allow-headers"]) == (204, "Range")
        part = httpx.get(address, headers=page | {"range": "bytes=0-9"})
        assert part.status_code == 206
        assert part.headers["access-control-allow-origin"] == "*"
        assert "Content-Range" in part.headers["access-control-expose-headers"]
    segments = [line for line in playlist.text.splitlines() if line and not line.startswith("#")]
    base = hls["video_url"].rpartition("/")[0]
    stream = tmp_path / "stream.ts"
    stream.write_bytes(b"".join(httpx.get(f"{base}/{name}").content for name in segments))
    with av.open(str(stream)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert sum(1 for _ in container.decode(video=0)) == pytest.approx(50, abs=2)
    vectors = api.get(path, params={"embedding_option": "visual"}).json()["embedding"]["video_embedding"]
    clips = [segment for segment in vectors["segments"] if segment["embedding_scope"] == "clip"]
    assert len(hls["thumbnail_urls"]) == len(clips)
    for url in hls["thumbnail_urls"]:
        assert httpx.get(url).content.startswith(b"\xff\xd8")


def test_one_thumbnail_without_the_addon(api: API, film: Path) -> None:
    index_id = api.new_index("no addon")
    task = api.settled(api.upload(index_id, film)["_id"])
    (only,) = api.get(f"/tasks/{task['_id']}").json()["hls"]["thumbnail_urls"]
    assert only.endswith("/thumbnail.jpg")
    assert httpx.get(only).content.startswith(b"\xff\xd8")


def test_addresses_of_media_cannot_be_made_up(api: API, indexed: IndexedVideos) -> None:
    url = api.get(f"/indexes/{indexed.index_id}/videos/{indexed.videos[0]}").json()["hls"]["thumbnail_urls"][
        0
    ]
    head, _, name = url.rpartition("/")
    for bad in (
        head.replace(indexed.videos[0], indexed.videos[1]) + f"/{name}",
        url.replace("/media/", "/media/9"),
        f"{head}/%2e%2e%2f%2e%2e%2fengine.sqlite",
        f"{head}/..%2fsource",
        head.removesuffix("/frames") + "/source/source",
        f"{head}/nothing.jpg",
    ):
        assert httpx.get(bad).status_code == 404, bad


def test_a_deleted_video_is_gone_everywhere(api: API, film: Path, server: Any) -> None:
    index_id = api.new_index("short life")
    task = api.upload(index_id, film, enable_video_stream="false")
    assert api.settled(task["_id"])["status"] == "ready"
    path = f"/indexes/{index_id}/videos/{task['video_id']}"
    assert "hls" not in api.get(path).json()
    assert api.delete(path).status_code == 204
    assert problem(api.get(path)) == (404, "not_found")
    assert api.get(f"/indexes/{index_id}/videos").json()["data"] == []
    found = api.form(
        "/search", ("index_id", index_id), ("search_options", "visual"), ("query_text", "a red circle")
    )
    assert found.json()["data"] == []
    assert not (server.home / "videos" / task["video_id"]).exists()
    assert api.delete(f"/tasks/{task['_id']}").status_code == 204
