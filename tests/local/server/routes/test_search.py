"""/search: options, filters, pages, tokens; every refusal once."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.local.conftest import API, IndexedVideos, problem
from tests.support.odd_server import OddServer

NOWHERE = "0123456789abcdef01234567"
Field = tuple[str, Any]


def png(width: int, height: int) -> bytes:
    """A red picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xdc\x1e\x23" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


PLAIN, SMALL, LARGE = ("a.png", b"text"), ("a.png", png(100, 100)), ("a.png", png(200, 200))


def search(api: API, index_id: str, *fields: Field, text: str | None = "Blue ship") -> httpx.Response:
    """A search; `visual` unless options are among the fields."""
    more = [] if any(name == "search_options" for name, _ in fields) else [("search_options", "visual")]
    asked = [("query_text", text)] if text is not None else []
    return api.form("/search", ("index_id", index_id), *more, *asked, *fields)


def test_on_screen_text_is_found_in_every_video(api: API, indexed: IndexedVideos) -> None:
    answer = search(api, indexed.index_id, ("include_user_metadata", "true"))
    assert answer.status_code == 200
    body = answer.json()
    assert body["search_pool"]["index_id"] == indexed.index_id
    assert body["search_pool"]["total_count"] == 3
    assert {hit["video_id"] for hit in body["data"]} == set(indexed.videos)
    assert [hit["rank"] for hit in body["data"]] == list(range(1, len(body["data"]) + 1))
    scores = [hit["score"] for hit in body["data"]]
    assert scores == sorted(scores, reverse=True)
    first = body["data"][0]
    assert first["confidence"] == "high"
    assert 0 <= first["start"] < first["end"] <= 5.5
    assert first["user_metadata"]["number"] in (1, 2, 3)
    assert httpx.get(first["thumbnail_url"]).content.startswith(b"\xff\xd8")
    info = body["page_info"]
    assert (info["limit_per_page"], info["total_results"]) == (10, len(body["data"]))
    assert "next_page_token" not in info
    assert info["page_expires_at"].endswith("Z")
    assert "user_metadata" not in search(api, indexed.index_id).json()["data"][0]


def test_pages_by_token_there_and_back(api: API, indexed: IndexedVideos) -> None:
    whole = search(api, indexed.index_id).json()["data"]
    first = search(api, indexed.index_id, ("page_limit", "1"), ("include_user_metadata", "true")).json()
    assert len(first["data"]) == 1
    token = first["page_info"]["next_page_token"]
    assert token.endswith("-1")
    seen = list(first["data"])
    while token:
        page = api.get(f"/search/{token}").json()
        assert "user_metadata" in page["data"][0]
        assert page["search_pool"] == first["search_pool"]
        seen += page["data"]
        token = page["page_info"].get("next_page_token")
    assert [hit["video_id"] for hit in seen] == [hit["video_id"] for hit in whole]
    back = api.get(f"/search/{page['page_info']['prev_page_token']}").json()
    assert back["data"] == seen[-2:-1]
    assert (
        "user_metadata"
        not in api.get(
            f"/search/{page['page_info']['prev_page_token']}", params={"include_user_metadata": "false"}
        ).json()["data"][0]
    )


def test_grouped_by_video(api: API, indexed: IndexedVideos) -> None:
    for sort in ("score", "clip_count"):
        body = search(
            api, indexed.index_id, ("group_by", "video"), ("sort_option", sort), ("page_limit", "2")
        ).json()
        assert len(body["data"]) == 2
        assert set(body["data"][0]) == {"id", "clips"}
        assert {"score", "start", "end", "video_id", "confidence"} <= set(body["data"][0]["clips"][0])
        assert body["page_info"]["total_results"] == 3
        assert body["page_info"]["total_inner_matches"] >= 3
        last = api.get(f"/search/{body['page_info']['next_page_token']}").json()
        assert len(last["data"]) == 1


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({}, [1, 2, 3]),
        ({"number": 2}, [2]),
        ({"number": {"gte": 2}}, [2, 3]),
        ({"number": {"gte": 10, "lte": 5}}, []),
        ({"color": "blue", "good": True}, [3]),
        ({"good": False}, [1, 2]),
        ({"bogus_field": 5}, []),
        ({"duration": {"gte": 1, "lte": 10}}, [1, 2, 3]),
        ({"duration": {}}, [1, 2, 3]),
        ({"duration": -1}, []),
        ({"size": {"gte": 10**30}}, []),
        ({"number": 10**400}, []),
        ({"width": 480, "height": 360}, [1, 2, 3]),
        ({"filename": "plain.mp4"}, [1, 2, 3]),
        ({"a' OR '1'='1": "x"}, []),
    ],
)
def test_filters(api: API, indexed: IndexedVideos, given: dict[str, Any], numbers: list[int]) -> None:
    answer = search(api, indexed.index_id, ("filter", json.dumps(given)))
    assert answer.status_code == 200, answer.text
    assert {hit["video_id"] for hit in answer.json()["data"]} == {indexed.videos[n - 1] for n in numbers}
    assert answer.json()["search_pool"]["total_count"] == len(numbers)


def test_a_filter_by_id(api: API, indexed: IndexedVideos) -> None:
    one = search(api, indexed.index_id, ("filter", json.dumps({"id": indexed.videos[:1]}))).json()
    assert {hit["video_id"] for hit in one["data"]} == {indexed.videos[0]}
    strange = search(api, indexed.index_id, ("filter", json.dumps({"id": [NOWHERE]})))
    assert problem(strange) == (400, "search_video_not_in_same_index")


@pytest.mark.parametrize(
    "given",
    [
        "{", "[1]", "5", '"x"', '{"duration": "five"}', '{"filename": 123}', '{"duration": {"bogus_op": 1}}',
        '{"filename": {"gte": 1}}', '{"id": "0123456789abcdef01234567"}', '{"id": [123]}',
        '{"id": ["short"]}',
        '{"id": []}', '{"x": [1]}', '{"x": null}', '{"x": {"gte": "a"}}', '{"duration": true}', '{"x": NaN}',
    ],
)  # fmt: skip
def test_bad_filters(api: API, indexed: IndexedVideos, given: str) -> None:
    assert problem(search(api, indexed.index_id, ("filter", given))) == (400, "search_filter_invalid")


@pytest.mark.parametrize(
    ("fields", "text", "code"),
    [
        ([("search_options", "smell")], "x", "search_option_not_supported"),
        ([], None, "parameter_not_provided"),
        ([], "  ", "parameter_invalid"),
        ([], "word " * 501, "parameter_invalid"),
        ([("page_limit", "51")], "x", "parameter_invalid"),
        ([("page_limit", "-1")], "x", "parameter_invalid"),
        ([("page_limit", "many")], "x", "parameter_invalid"),
        ([("group_by", "index")], "x", "parameter_invalid"),
        ([("sort_option", "clip_count")], "x", "parameter_invalid"),
        ([("sort_option", "age")], "x", "parameter_invalid"),
        ([("operator", "xor")], "x", "parameter_invalid"),
        ([("threshold", "huge")], "x", "parameter_invalid"),
        ([("adjust_confidence_level", "1.5")], "x", "parameter_invalid"),
        ([("adjust_confidence_level", "nan")], "x", "parameter_invalid"),
        ([("transcription_options", "loud")], "x", "parameter_invalid"),
        ([("include_user_metadata", "maybe")], "x", "parameter_invalid"),
        ([("search_options", "[broken")], "x", "parameter_invalid"),
        ([("query_media_url", "http://h/a.jpg")], None, "parameter_not_provided"),
        ([("query_media_type", "video"), ("query_media_url", "http://h/a.jpg")], None, "parameter_invalid"),
        ([("query_media_type", "image"), ("query_media_url", "no url")], None, "parameter_invalid"),
        ([("query_media_type", "image"), ("query_media_file", PLAIN)], None, "parameter_invalid"),
        ([("query_media_type", "image"), ("query_media_file", SMALL)], None, "parameter_invalid"),
        (
            [("search_options", "audio"), ("query_media_type", "image"), ("query_media_file", LARGE)],
            None, "search_option_combination_not_supported",
        ),
        (
            [("transcription_options", "lexical"), ("query_media_type", "image"),
             ("query_media_file", LARGE)],
            None, "search_option_combination_not_supported",
        ),
    ],
)  # fmt: skip
def test_bad_searches(
    api: API, indexed: IndexedVideos, fields: list[Field], text: str | None, code: str
) -> None:
    assert problem(search(api, indexed.index_id, *fields, text=text)) == (400, code)


def test_missing_and_foreign_ids_are_refused(api: API, indexed: IndexedVideos) -> None:
    bare = api.form("/search", ("query_text", "x"))
    assert problem(bare) == (400, "parameter_not_provided")
    assert "index_id, search_options" in bare.json()["message"]
    assert problem(search(api, NOWHERE)) == (404, "resource_not_exists")
    assert problem(search(api, "short")) == (400, "parameter_invalid")


def test_options_of_the_index_and_of_old_models(api: API) -> None:
    old = api.new_index("old", [{"model_name": "marengo2.7", "model_options": ["visual"]}])
    assert problem(search(api, old, ("search_options", "audio"))) == (400, "search_option_not_supported")
    assert problem(search(api, old, text="word " * 78)) == (400, "parameter_invalid")
    image = [("query_media_type", "image"), ("query_media_file", ("a.png", png(70, 70)))]
    assert search(api, old, *image, text=None).status_code == 200
    assert problem(search(api, old, *image)) == (400, "search_option_combination_not_supported")
    writer = api.new_index("only writes", [{"model_name": "pegasus1.2", "model_options": ["visual"]}])
    assert problem(search(api, writer)) == (400, "index_not_supported_for_search")


def test_forms_that_sdks_and_old_samples_send(api: API, indexed: IndexedVideos) -> None:
    wanted = search(api, indexed.index_id).json()["data"]
    twice = search(
        api, indexed.index_id, ("search_options", "visual"), ("search_options", "visual"), ("_", ("", b""))
    )
    array = search(api, indexed.index_id, ("search_options", '["visual"]'))
    as_json = api.post(
        "/search", json={"index_id": indexed.index_id, "search_options": ["visual"], "query": "Blue ship"}
    )
    for answer in (twice, array, as_json):
        assert [hit["video_id"] for hit in answer.json()["data"]] == [hit["video_id"] for hit in wanted]


def test_and_finds_no_more_than_or(api: API, indexed: IndexedVideos) -> None:
    options = [("search_options", "visual"), ("search_options", "audio"), ("threshold", "none")]

    def found(operator: str) -> set[tuple[str, float]]:
        answer = search(api, indexed.index_id, *options, ("operator", operator))
        return {(hit["video_id"], hit["start"]) for hit in answer.json()["data"]}

    assert found("and") <= found("or")


def test_pictures_find_the_video_they_are_from(api: API, indexed: IndexedVideos, files: OddServer) -> None:
    hls = api.get(f"/indexes/{indexed.index_id}/videos/{indexed.videos[0]}").json()["hls"]
    frame = httpx.get(hls["thumbnail_urls"][0]).content
    image = ("query_media_type", "image")
    by_file = search(api, indexed.index_id, image, ("query_media_file", ("frame.jpg", frame)), text=None)
    (files.folder / "frame.jpg").write_bytes(frame)
    by_url = search(api, indexed.index_id, image, ("query_media_url", files.url("frame.jpg")), text=None)
    both = search(api, indexed.index_id, image, ("query_media_url", files.url("frame.jpg")))
    for answer in (by_file, by_url, both):
        assert {hit["video_id"] for hit in answer.json()["data"]} == set(indexed.videos), answer.text
    for way in ("404", "html", "500"):
        bad = search(
            api, indexed.index_id, image, ("query_media_url", files.odd(way, "frame.jpg")), text=None
        )
        assert problem(bad) == (400, "parameter_invalid")


@pytest.mark.parametrize("token", ["garbage", "0", f"{'0' * 8}-0000-0000-0000-{'0' * 12}-1", "a%20b", "%00"])
def test_forged_page_tokens_are_refused(api: API, token: str) -> None:
    assert problem(api.get(f"/search/{token}")) == (400, "search_page_token_expired")


def test_tokens_end_with_time_and_with_their_videos(start_engine: Callable[..., Engine], film: Path) -> None:
    engine = start_engine("--page-token-seconds", "1")
    with API(engine.base_url) as api:
        index_id = api.new_index("passing")
        tasks = [api.upload(index_id, film) for _ in range(2)]
        for task in tasks:
            assert api.settled(task["_id"])["status"] == "ready"
        first = search(api, index_id, ("page_limit", "1")).json()
        token = first["page_info"]["next_page_token"]
        assert api.get(f"/search/{token}").status_code == 200
        assert problem(api.get(f"/search/{token[:-1]}7")) == (400, "search_page_token_expired")
        api.delete(f"/indexes/{index_id}/videos/{first['data'][0]['video_id']}")
        assert problem(api.get(f"/search/{token}")) == (400, "search_page_token_expired")
        deadline = search(api, index_id, ("threshold", "none"), ("page_limit", "1")).json()["page_info"]
        assert deadline["page_expires_at"] > first["page_info"]["page_expires_at"]
