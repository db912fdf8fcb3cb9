"""Each operation as it goes over the wire, and answers of every shape that come back."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted import KEY, Server, late, say
from tl_data import usage
from tl_data.client import OPERATIONS, Client
from tl_data.errors import BadRequest, MediaRefused, NotAllowed, NotFound, ServerFailed, SettingsError
from tl_data.settings import Settings

Run = Callable[..., Any]

INDEX, VIDEO = "0123456789abcdef01234567", "89abcdef0123456789abcdef"
BATCH, ASSET, UPLOAD = "batch-1", "a55e70123456789abcdef012", "up10ad0123456789abcdef01"
COLLECTION, ENTITY = "c011ec7101234567", "e17170123456789a"
DONE = say(204)
MEDIA = {"url": "https://e.com/v.mp4"}
ITEMS = say(200, {"data": [{"_id": "a", "new_field": 1}], "page_info": {"page": 1, "total_page": 1}})


async def every(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def path_of(template: str) -> str:
    for name, value in [
        ("index_id", INDEX),
        ("video_id", VIDEO),
        ("task_id", VIDEO),
        ("integration_id", INDEX),
        ("page_token", "t-1"),
        ("batch_id", BATCH),
        ("asset_id", ASSET),
        ("upload_id", UPLOAD),
        ("indexed_asset_id", VIDEO),
        ("entity_collection_id", COLLECTION),
        ("entity_id", ENTITY),
    ]:
        template = template.replace(f"{{{name}}}", value)
    return template


#: Client method -> how it is called here.
CALLS: dict[str, Callable[[Client], Any]] = {
    "create_index": lambda c: c.create_index("n", [{"model_name": "m", "model_options": ["visual"]}]),
    "list_indexes": lambda c: every(c.list_indexes()),
    "retrieve_index": lambda c: c.retrieve_index(INDEX),
    "update_index": lambda c: c.update_index(INDEX, "new"),
    "delete_index": lambda c: c.delete_index(INDEX),
    "list_videos": lambda c: every(c.list_videos(INDEX)),
    "retrieve_video": lambda c: c.retrieve_video(INDEX, VIDEO),
    "update_video": lambda c: c.update_video(INDEX, VIDEO, {"k": None}),
    "delete_video": lambda c: c.delete_video(INDEX, VIDEO),
    "create_task": lambda c: c.create_task(INDEX, video_url="https://e.com/v.mp4"),
    "list_tasks": lambda c: every(c.list_tasks()),
    "retrieve_task": lambda c: c.retrieve_task(VIDEO),
    "delete_task": lambda c: c.delete_task(VIDEO),
    "create_import": lambda c: c.create_import(INDEX, INDEX),
    "import_status": lambda c: c.import_status(INDEX, INDEX),
    "import_logs": lambda c: c.import_logs(INDEX),
    "search": lambda c: every(c.search(INDEX, ["visual"], query_text="x")),
    "analyze": lambda c: c.analyze(VIDEO, "what?"),
    "analyze_stream": lambda c: every(c.analyze_stream(VIDEO, "what?")),
    "gist": lambda c: c.gist(VIDEO, ["title"]),
    "summarize": lambda c: c.summarize(VIDEO, "summary"),
    "embed": lambda c: c.embed("m", text="x"),
    "create_embed_task": lambda c: c.create_embed_task("m", video_url="https://e.com/v.mp4"),
    "list_embed_tasks": lambda c: every(c.list_embed_tasks()),
    "retrieve_embed_task": lambda c: c.retrieve_embed_task(VIDEO),
    "embed_task_status": lambda c: c.embed_task_status(VIDEO),
    "create_analyze_task": lambda c: c.create_analyze_task(
        {"type": "url", "url": "https://e.com/v.mp4"}, "?"
    ),
    "list_analyze_tasks": lambda c: every(c.list_analyze_tasks()),
    "retrieve_analyze_task": lambda c: c.retrieve_analyze_task(VIDEO),
    "delete_analyze_task": lambda c: c.delete_analyze_task(VIDEO),
    "cancel_analyze_task": lambda c: c.cancel_analyze_task(VIDEO),
    "create_batch": lambda c: c.create_batch([{"video": {"type": "asset_id", "asset_id": ASSET}}]),
    "list_batches": lambda c: every(c.list_batches()),
    "retrieve_batch": lambda c: c.retrieve_batch(BATCH),
    "batch_results": lambda c: c.batch_results(BATCH),
    "cancel_batch": lambda c: c.cancel_batch(BATCH),
    "delete_batch": lambda c: c.delete_batch(BATCH),
    "create_asset": lambda c: c.create_asset(url="https://e.com/v.mp4"),
    "list_assets": lambda c: every(c.list_assets()),
    "retrieve_asset": lambda c: c.retrieve_asset(ASSET),
    "delete_asset": lambda c: c.delete_asset(ASSET),
    "asset_transcription": lambda c: c.asset_transcription(ASSET),
    "update_asset_metadata": lambda c: c.update_asset_metadata(ASSET, {"k": None}),
    "replace_asset_metadata": lambda c: c.replace_asset_metadata(ASSET, {"k": 1}),
    "delete_asset_metadata": lambda c: c.delete_asset_metadata(ASSET),
    "create_upload": lambda c: c.create_upload("v.mp4", 300_000_000),
    "list_uploads": lambda c: every(c.list_uploads()),
    "retrieve_upload": lambda c: c.retrieve_upload(UPLOAD),
    "upload_urls": lambda c: c.upload_urls(UPLOAD, 1, 2),
    "report_chunks": lambda c: c.report_chunks(UPLOAD, [{"chunk_index": 1, "proof": "e"}]),
    "index_asset": lambda c: c.index_asset(INDEX, ASSET),
    "list_indexed_assets": lambda c: every(c.list_indexed_assets(INDEX)),
    "retrieve_indexed_asset": lambda c: c.retrieve_indexed_asset(INDEX, VIDEO),
    "update_indexed_asset": lambda c: c.update_indexed_asset(INDEX, VIDEO, {"k": None}),
    "delete_indexed_asset": lambda c: c.delete_indexed_asset(INDEX, VIDEO),
    "asset_indexes": lambda c: every(c.asset_indexes(ASSET)),
    "embed_v2": lambda c: c.embed_v2("text", "m", text={"input_text": "x"}),
    "create_embed_v2_task": lambda c: c.create_embed_v2_task("video", "m", video={"media_source": MEDIA}),
    "list_embed_v2_tasks": lambda c: every(c.list_embed_v2_tasks()),
    "retrieve_embed_v2_task": lambda c: c.retrieve_embed_v2_task(VIDEO),
    "create_entity_collection": lambda c: c.create_entity_collection("people"),
    "list_entity_collections": lambda c: every(c.list_entity_collections()),
    "retrieve_entity_collection": lambda c: c.retrieve_entity_collection(COLLECTION),
    "update_entity_collection": lambda c: c.update_entity_collection(COLLECTION, name="crew"),
    "delete_entity_collection": lambda c: c.delete_entity_collection(COLLECTION),
    "create_entity": lambda c: c.create_entity(COLLECTION, "Ada", [ASSET]),
    "create_entities": lambda c: c.create_entities(COLLECTION, [{"name": "Ada", "asset_ids": [ASSET]}]),
    "list_entities": lambda c: every(c.list_entities(COLLECTION)),
    "retrieve_entity": lambda c: c.retrieve_entity(COLLECTION, ENTITY),
    "update_entity": lambda c: c.update_entity(COLLECTION, ENTITY, metadata={}),
    "delete_entity": lambda c: c.delete_entity(COLLECTION, ENTITY),
    "add_entity_assets": lambda c: c.add_entity_assets(COLLECTION, ENTITY, [ASSET]),
    "remove_entity_assets": lambda c: c.remove_entity_assets(COLLECTION, ENTITY, [ASSET]),
    "asset_entities": lambda c: every(c.asset_entities(ASSET)),
}

#: A POST without a body, and a DELETE with one.
BODY_UNLIKE_THE_METHOD = {"cancel_analyze_task", "cancel_batch", "remove_entity_assets"}

#: An answer that every operation can read: each kind of id, and an empty page.
ANY_ANSWER = {"_id": "x", "task_id": "x", "batch_id": "x", "upload_id": "x", "data": []}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.route} {o.method}")
def test_the_table_of_operations_is_true(server: Server, run: Run, operation: Any) -> None:
    method, path = path_of(operation.route).split()
    server.tell(f"{method} {path}", say(200, ANY_ANSWER | {"event_type": "stream_end"}))
    if path == "/search/t-1":
        server.tell("POST /search", say(200, {"data": [], "page_info": {"next_page_token": "t-1"}}))
    if method == "PUT" and operation.method == "update_video":
        server.tell(f"PATCH {path}", say(405))
    run(CALLS[operation.method])
    assert len(server.asked(f"{method} {path}")) == 1
    for request in server.requests:
        assert request.headers["x-api-key"] == KEY
        assert request.headers["user-agent"].startswith("tl_data/")
        assert request.target.startswith("/v1.3/")
        unlike = operation.method in BODY_UNLIKE_THE_METHOD
        assert (request.body != b"") is ((request.method not in ("GET", "DELETE")) is not unlike)
    assert operation.doc.endswith(".")


def test_every_operation_is_called_by_some_test() -> None:
    assert {o.method for o in OPERATIONS} == set(CALLS)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize(
    "name", ["update_index", "delete_index", "update_video", "delete_video", "delete_task"]
)
def test_any_2xx_will_do_with_and_without_a_body(server: Server, run: Run, name: str, status: int) -> None:
    for route in (
        f"PUT /indexes/{INDEX}",
        f"DELETE /indexes/{INDEX}",
        f"PATCH /indexes/{INDEX}/videos/{VIDEO}",
    ):
        server.tell(route, say(status))
    server.tell(f"DELETE /indexes/{INDEX}/videos/{VIDEO}", say(status, b"" if status == 204 else {}))
    server.tell(f"DELETE /tasks/{VIDEO}", say(status, b"" if status == 204 else b" \n"))
    assert run(CALLS[name]) is None


def test_a_form_is_sent_as_the_api_reads_it(server: Server, run: Run) -> None:
    server.tell("POST /search", say(200, {"data": []}))
    run(
        lambda c: every(
            c.search(
                INDEX,
                ["visual", "audio"],
                query_text="ein „rotes“ Auto\n",
                query_media_url=["https://e.com/a b.jpg", "https://e.com/ü.jpg"],
                adjust_confidence_level=0.5,
                filter={"team": "ü", "width": {"gte": 5}},
                include_user_metadata=True,
                transcription_options=["lexical"],
                group_by="video",
                operator="and",
                threshold="low",
                sort_option="clip_count",
                page_limit=5,
            )
        )
    )
    (request,) = server.requests
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert int(request.headers["content-length"]) == len(request.body)
    assert request.fields == [
        ("index_id", INDEX),
        ("search_options", "visual"),
        ("search_options", "audio"),
        ("query_text", "ein „rotes“ Auto\n"),
        ("query_media_type", "image"),
        ("query_media_url", "https://e.com/a%20b.jpg"),
        ("query_media_url", "https://e.com/%C3%BC.jpg"),
        ("group_by", "video"),
        ("threshold", "low"),
        ("adjust_confidence_level", "0.5"),
        ("sort_option", "clip_count"),
        ("operator", "and"),
        ("page_limit", "5"),
        ("filter", '{"team":"ü","width":{"gte":5}}'),
        ("include_user_metadata", "true"),
        ("transcription_options", "lexical"),
    ]


def test_query_strings_are_written_as_the_api_reads_them(server: Server, run: Run) -> None:
    server.tell(f"GET /indexes/{INDEX}/videos", ITEMS)
    server.tell(f"GET /indexes/{INDEX}/videos/{VIDEO}", say(200, {"_id": VIDEO}))
    server.tell("GET /indexes", ITEMS)
    server.tell("GET /tasks", ITEMS)
    run(
        lambda c: every(
            c.list_videos(
                INDEX, duration={"gte": 5, "lte": 10.5}, width=1280, needsReview=True, category="ä b"
            )
        )
    )
    run(
        lambda c: c.retrieve_video(
            INDEX, VIDEO, embedding_option=["visual-text", "audio"], transcription=True
        )
    )
    run(lambda c: every(c.list_indexes(model_options=["visual", "audio"], page=2, page_limit=7)))
    run(lambda c: every(c.list_tasks(status=["ready", "failed"], updated_at="2025-01-01T00:00:00Z")))
    assert [r.query for r in server.requests] == [
        [
            ("duration[gte]", "5"),
            ("duration[lte]", "10.5"),
            ("width", "1280"),
            ("needsReview", "true"),
            ("category", "ä b"),
            ("page", "1"),
            ("page_limit", "50"),
        ],
        [("embedding_option", "visual-text"), ("embedding_option", "audio"), ("transcription", "true")],
        [("page", "2"), ("page_limit", "7"), ("model_options", "visual,audio")],
        [
            ("status", "ready"),
            ("status", "failed"),
            ("updated_at", "2025-01-01T00:00:00Z"),
            ("page", "1"),
            ("page_limit", "50"),
        ],
    ]


def test_none_is_not_sent_and_stream_is_always_sent(server: Server, run: Run) -> None:
    server.tell("POST /analyze", say(200, {"data": "x"}))
    server.tell("POST /indexes", say(201, {"_id": "x"}))
    run(CALLS["analyze"])
    run(CALLS["create_index"])
    assert server.requests[0].json == {"video_id": VIDEO, "prompt": "what?", "stream": False}
    assert set(server.requests[1].json) == {"index_name", "models"}


def test_an_upload_comes_from_disk_with_its_progress(server: Server, run: Run, tmp_path: Path) -> None:
    file = tmp_path / 'a "b" ü.mp4'
    content = bytes(range(256)) * 4096 * 3
    file.write_bytes(content)
    server.tell("POST /tasks", say(429), say(201, {"_id": "t", "video_id": "v"}))
    progress: list[tuple[int, int]] = []
    task = run(
        lambda c: c.create_task(
            INDEX,
            video_file=file,
            user_metadata={"a": 1},
            enable_video_stream=False,
            on_progress=lambda sent, total: progress.append((sent, total)),
        )
    )
    assert task == {"_id": "t", "video_id": "v"}
    for request in server.requests:  # the second time from the beginning
        assert request.parts[-1][0] == "video_file"
        assert request.parts[-1][2] == content
        assert b'filename="a %22b%22 \xc3\xbc.mp4"\r\nContent-Type: video/mp4' in request.body[:1000]
        assert request.fields == [
            ("index_id", INDEX),
            ("enable_video_stream", "false"),
            ("user_metadata", '{"a":1}'),
        ]
    assert progress == [(n * 2**20, 3 * 2**20) for n in (1, 2, 3)] * 2


@pytest.mark.parametrize("what", ["missing", "empty", "folder"])
def test_a_file_that_cannot_be_sent_is_refused_before_anything_is(
    server: Server, run: Run, tmp_path: Path, what: str
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MediaRefused, match=what):
        run(lambda c: c.create_task(INDEX, video_file=tmp_path / what))
    assert server.requests == []


def test_a_file_that_shrinks_during_the_upload_is_an_error(server: Server, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "v.mp4"
    file.write_bytes(b"x" * 5_000_000)

    def shrink(sent: int, total: int) -> None:
        with file.open("r+b") as f:
            f.truncate(1)

    with pytest.raises(MediaRefused, match=r"v.mp4 was truncated"):
        run(lambda c: c.create_task(INDEX, video_file=file, on_progress=shrink))


def test_pages_are_read_to_the_end_and_each_item_once(server: Server, run: Run) -> None:
    def page(number: int, ids: str, **info: int) -> bytes:
        return say(200, {"data": [{"_id": i} for i in ids], "page_info": {"page": number, **info}})

    server.tell(
        "GET /indexes", page(1, "ab", total_page=3), page(2, "bc", total_page=3), page(3, "d", total_page=3)
    )
    assert [i["_id"] for i in run(CALLS["list_indexes"])] == list("abcd")
    assert len(server.requests) == 3
    # without page_info, until a page is empty
    server.tell("GET /indexes", page(1, "ab"), page(2, "c"), page(3, ""))
    assert [i["_id"] for i in run(CALLS["list_indexes"])] == list("abc")
    server.tell("GET /indexes", say(200, {"data": None}))
    assert run(CALLS["list_indexes"]) == []
    # counts that cannot be true, and items without an id
    server.tell("GET /indexes", page(1, "ab", total_page=0), page(2, "c", total_page=0), page(3, ""))
    assert [i["_id"] for i in run(CALLS["list_indexes"])] == list("abc")
    server.tell("GET /indexes", say(200, {"data": [{"index_name": "a"}, {"index_name": "b"}]}), page(2, ""))
    assert [i["index_name"] for i in run(CALLS["list_indexes"])] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("create_index", "POST /indexes"),
        ("create_task", "POST /tasks"),
        ("create_embed_task", "POST /embed/tasks"),
        ("create_embed_v2_task", "POST /embed-v2/tasks"),
        ("create_analyze_task", "POST /analyze/tasks"),
        ("create_batch", "POST /analyze/batches"),
        ("create_asset", "POST /assets"),
        ("create_upload", "POST /assets/multipart-uploads"),
        ("index_asset", f"POST /indexes/{INDEX}/indexed-assets"),
        ("create_entity_collection", "POST /entity-collections"),
        ("create_entity", f"POST /entity-collections/{COLLECTION}/entities"),
    ],
)
def test_a_response_without_the_created_id_is_an_error(
    server: Server, run: Run, name: str, route: str
) -> None:
    server.tell(route, say(201, {"status": "ok"}))
    with pytest.raises(ServerFailed) as caught:
        run(CALLS[name])
    assert (caught.value.code, caught.value.http_status) == ("answer_unreadable", 200)
    assert caught.value.maybe_done
    assert len(server.requests) == 1  # what may exist is not made again


def test_search_follows_its_tokens(server: Server, run: Run) -> None:
    def page(ids: str, token: str | None = "absent") -> bytes:
        info = {} if token == "absent" else {"next_page_token": token}
        return say(200, {"data": [{"video_id": i} for i in ids], "page_info": info})

    def look(limit: int | None = None, page_limit: int | None = None) -> str:
        found = run(
            lambda c: every(
                c.search(
                    INDEX,
                    ["visual"],
                    query_text="x",
                    limit=limit,
                    page_limit=page_limit,
                    include_user_metadata=True,
                )
            )
        )
        return "".join(hit["video_id"] for hit in found)

    server.tell("POST /search", page("ab", "u/u-1"))
    server.tell("GET /search/u%2Fu-1", page("cd", "u-2"))
    for last in (page("e"), page("e", None), page("e", ""), page("e", "u-2")):
        server.tell("GET /search/u-2", last)
        assert look() == "abcde"
    assert server.requests[1].query == [("include_user_metadata", "true")]
    server.requests.clear()
    assert look(limit=3) == "abc"
    assert len(server.requests) == 2
    assert look(limit=2) == "ab"
    assert len(server.requests) == 3
    sizes = [dict(r.fields)["page_limit"] for r in server.asked("POST /search")]
    assert sizes == ["3", "2"]
    server.tell("GET /search/u-2", say(400, {"code": "search_page_token_expired", "message": "Token: u-2."}))
    with pytest.raises(BadRequest, match=r"about 15 minutes.* 4 results were read"):
        look()


def test_an_image_to_search_by_is_sent_as_a_file(server: Server, run: Run, tmp_path: Path) -> None:
    server.tell("POST /search", say(200, {"data": []}))
    (tmp_path / "car.jpg").write_bytes(b"\xff\xd8\xff picture")
    run(lambda c: every(c.search(INDEX, ["visual"], query_media_file=[tmp_path / "car.jpg", b"\x89PNG..."])))
    assert server.requests[0].parts[2:] == [
        ("query_media_type", None, b"image"),
        ("page_limit", None, b"50"),
        ("query_media_file", "car.jpg", b"\xff\xd8\xff picture"),
        ("query_media_file", "upload.png", b"\x89PNG..."),
    ]


def test_a_video_is_patched_or_put(server: Server, run: Run) -> None:
    where = f"/indexes/{INDEX}/videos/{VIDEO}"

    async def twice(client: Client) -> None:
        await client.update_video(INDEX, VIDEO, {"a": 1, "b": None}, video_title="T")
        await client.update_video(INDEX, VIDEO, {"c": 2})

    server.tell(f"PATCH {where}", say(405), DONE)
    server.tell(f"PUT {where}", say(200))
    run(twice)
    assert [r.json.get("video_title") for r in server.requests] == ["T", "T", None]
    assert [(r.method, r.json["user_metadata"]) for r in server.requests] == [
        ("PATCH", {"a": 1, "b": None}),
        ("PUT", {"a": 1, "b": None}),
        ("PUT", {"c": 2}),
    ]
    server.requests.clear()
    server.tell(f"PATCH {where}", say(404, {"code": "resource_not_exists", "message": "No video."}))
    with pytest.raises(NotFound, match="No video"):
        run(twice)
    assert len(server.requests) == 1
    server.tell(f"PATCH {where}", say(404, "<title>Not Found</title>"))
    run(twice)


@pytest.mark.parametrize("kind", ["gzip", "chunked", "chunked gzip"])
def test_bodies_in_every_wrapping(server: Server, run: Run, kind: str) -> None:
    body = json.dumps({"_id": INDEX, "x": "ü" * 5000}).encode()
    headers = {}
    if "gzip" in kind:
        body, headers["content_encoding"] = gzip.compress(body), "gzip"
    if "chunked" in kind:
        halves = [body[:20], body[20:]]
        body = b"".join(b"%x\r\n%s\r\n" % (len(h), h) for h in halves) + b"0\r\n\r\n"
        headers |= {"transfer_encoding": "chunked", "content_length": ""}
    server.tell(f"GET /indexes/{INDEX}", say(200, body, **headers))
    assert run(CALLS["retrieve_index"])["_id"] == INDEX


def test_a_broken_gzip_body_is_a_lost_answer(server: Server, run: Run) -> None:
    good = say(200, {"_id": INDEX})
    server.tell(f"GET /indexes/{INDEX}", say(200, b"\x1f\x8bnot gzip", content_encoding="gzip"), good)
    assert run(CALLS["retrieve_index"])["_id"] == INDEX
    assert len(server.requests) == 2


def test_a_redirect_is_followed_where_the_key_may_go(server: Server, run: Run) -> None:
    server.tell(f"GET /indexes/{INDEX}", say(308, location="/v1.3/moved/index"))
    server.tell("GET /moved/index", say(200, {"_id": INDEX}))
    assert run(CALLS["retrieve_index"])["_id"] == INDEX
    server.tell("POST /tasks", say(307, location="/v1.3/moved/tasks"))
    server.tell("POST /moved/tasks", say(201, {"_id": "t"}))
    assert run(CALLS["create_task"])["_id"] == "t"
    for elsewhere in ("http://localhost:1/v1.3/x", "https://login.example.com/?next=1"):
        server.tell(f"GET /indexes/{INDEX}", say(302, location=elsewhere))
        with pytest.raises(BadRequest, match=r"redirected to http.*set TL_BASE_URL"):
            run(CALLS["retrieve_index"])
    server.tell("POST /tasks", say(303, location="/v1.3/moved/tasks"))
    with pytest.raises(BadRequest, match="was redirected"):
        run(CALLS["create_task"])


def test_the_receipt_counts_calls_and_tokens(server: Server, settings: Settings) -> None:
    usage_ = {"input_tokens": 7, "output_tokens": 100}
    server.tell(
        "POST /analyze",
        say(500),
        say(200, {"data": "x", "usage": usage_}, x_trace_id="r9", x_api_version="1.3"),
    )

    async def main() -> None:
        async with Client(settings, base_url=server.url + "/") as client:
            with usage.receipt() as receipt:
                await client.analyze(VIDEO, "?")
            assert client.api_version == "1.3"
            assert (receipt.calls, receipt.input_tokens, receipt.output_tokens, receipt.request_id) == (
                2,
                7,
                100,
                "r9",
            )

    asyncio.run(main())


def test_a_part_that_could_not_be_embedded_is_an_error(server: Server, run: Run) -> None:
    block = {"image_embedding": {"error_message": "the picture is too small", "segments": None}}
    server.tell("POST /embed", say(200, {"model_name": "m", "text_embedding": {"segments": []}} | block))
    with pytest.raises(
        BadRequest, match=r"image_embedding failed: the picture is too small \(embedding_failed"
    ):
        run(CALLS["embed"])


@pytest.mark.parametrize("odd", ["", ".", ".."])
def test_an_id_that_is_none_is_refused_here(server: Server, run: Run, odd: str) -> None:
    with pytest.raises(BadRequest, match="index_id must be an id"):
        run(lambda c: c.delete_index(odd))
    assert server.requests == []


def test_an_id_is_escaped_as_one_segment(server: Server, run: Run) -> None:
    with pytest.raises(NotFound):
        run(lambda c: c.delete_index("../tasks?x#y"))
    assert server.requests[0].target == "/v1.3/indexes/..%2Ftasks%3Fx%23y"


def test_a_url_that_is_none_is_refused_here(server: Server, run: Run) -> None:
    with pytest.raises(MediaRefused, match="begins with http"):
        run(lambda c: c.create_task(INDEX, video_url="videos/a.mp4"))
    assert server.requests == []


def test_a_slow_server_is_waited_for_so_long(server: Server, run: Run) -> None:
    whole = say(200, {"_id": INDEX})
    server.tell(f"GET /indexes/{INDEX}", late(whole, 0.8, first=len(whole) - 5))
    assert run(CALLS["retrieve_index"])["_id"] == INDEX
    with pytest.raises(Exception, match=r"no complete response from 127.0.0.1:\d+ within 0.4 s"):
        run(CALLS["retrieve_index"], timeout=0.4, retries=0)


def test_an_upload_may_take_longer_than_one_answer(server: Server, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "v.mp4"
    file.write_bytes(b"x" * (3 << 20))
    server.tell("POST /tasks", say(201, {"_id": "t"}))

    def dawdle(sent: int, total: int) -> None:
        time.sleep(0.3)

    assert run(lambda c: c.create_task(INDEX, video_file=file, on_progress=dawdle), timeout=0.5) == {
        "_id": "t"
    }


def test_a_key_with_a_line_break_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="line break") as caught:
        Client(Settings(api_key=KEY + "\n"), base_url="http://127.0.0.1:9")
    assert KEY not in str(caught.value)


def test_nothing_that_is_shown_holds_the_key(server: Server, settings: Settings, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    server.tell(f"GET /indexes/{INDEX}", say(200, b"HTTP/1.1 nonsense"), say(200, "<p>" + KEY))

    async def main() -> ServerFailed:
        async with Client(settings.but(retries=1), base_url=server.url) as client:
            assert KEY not in repr(client) + repr(client.settings) + repr(client.transport)
            with pytest.raises(ServerFailed) as caught:
                await client.retrieve_index(INDEX)
            return caught.value

    error = asyncio.run(main())
    shown = [str(error), repr(error), repr(error.__context__), repr(error.__cause__), caplog.text]
    assert KEY not in "".join(shown)


def test_a_refusal_during_an_upload_is_received(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "v.mp4"
    file.write_bytes(b"x" * (20 << 20))
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse_early() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(say(401, {"code": "api_key_invalid", "message": "No."}, connection="close"))
            while connection.recv(1 << 20):
                pass

    thread = threading.Thread(target=refuse_early)
    thread.start()

    async def main() -> None:
        async with Client(settings, base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            with pytest.raises(NotAllowed) as caught:
                await client.create_task(INDEX, video_file=file)
            assert not caught.value.maybe_done
            await asyncio.sleep(0.1)

    asyncio.run(main())
    thread.join()
    listener.close()


def test_the_proxy_of_the_environment_is_for_the_outside_world(
    server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.origin)
    monkeypatch.setenv("http_proxy", server.origin)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.tell(f"GET /indexes/{INDEX}", say(200, {"_id": "by way of the proxy"}))

    async def ask(base_url: str) -> Any:
        async with Client(settings, base_url=base_url) as client:
            return (await client.retrieve_index(INDEX))["_id"]

    assert asyncio.run(ask("http://api.example.test/v1.3")) == "by way of the proxy"
    assert server.requests[0].target.startswith("http://api.example.test/v1.3/")
    assert asyncio.run(ask(server.url)) == "by way of the proxy"
    assert server.requests[1].target.startswith("/v1.3/")
