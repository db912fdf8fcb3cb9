"""Every recorded answer of the service becomes the rows that it stands for, field by field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.replay_server import INDEX_ID, NAMES, ReplayServer, recording
from tests.support.scripted import KEY
from tl_data.client import Client
from tl_data.client.responses import error_from, video_record
from tl_data.client.task_poller import TaskWatcher
from tl_data.connection import Connection
from tl_data.errors import (
    BadRequest,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    TLDataError,
    is_shape_refusal,
)
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.functions.embed import segments, vector_rows
from tl_data.functions.listings import analyze_task_row
from tl_data.functions.search import _hit
from tl_data.ledger.models import Failure
from tl_data.ratelimit.reported import reported_limits
from tl_data.settings import Settings

VIDEO_ID = "650000000000000000000002"
ASSET_ID = "650000000000000000000008"
TODAY = {"data": [], "page_info": {"limit_per_page": 1, "page": 1, "total_page": 0, "total_results": 0}}
MARENGO_30 = {"_id": INDEX_ID, "index_name": "an index", "models": [{"model_name": "marengo3.0"}]}

Use = Callable[[Client], Any]
tested: set[str] = set()


def seen(name: str) -> Any:
    """The body of a recording, which counts as tested."""
    tested.add(name)
    return recording(name).response


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    with ReplayServer() as it:
        yield it


@pytest.fixture
def settings(server: ReplayServer, tmp_path: Path) -> Settings:
    return Settings(
        api_key=KEY, base_url=server.url, index=INDEX_ID, home=str(tmp_path), max_wait=5.0, poll_interval=0.1
    )


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    it = Connection(settings)
    yield it
    it.close()


def call(connection: Connection, name: str, **arguments: Any) -> Any:
    return connection.call(FUNCTIONS[name], **arguments)


def by_client(settings: Settings, use: Use) -> Any:
    async def main() -> Any:
        async with Client(settings, base_url=str(settings.base_url)) as client:
            return await use(client)

    return asyncio.run(main())


def video_of_2025(server: ReplayServer) -> None:
    server.say(
        f"GET /indexes/{INDEX_ID}/videos/{VIDEO_ID}", {"_id": VIDEO_ID, "system_metadata": {"duration": 60}}
    )


# ---- texts --------------------------------------------------------------------------------------


def test_an_analysis_of_2025(server: ReplayServer, connection: Connection) -> None:
    answer = seen("analyze_nostream_pegasus12")
    video_of_2025(server)
    server.replay("analyze_nostream_pegasus12")
    [row] = connection.map(FUNCTIONS["analyze"], [{"video": VIDEO_ID, "prompt": "What happens?"}])
    assert row.value == answer["data"]
    assert (row.receipt.input_tokens, row.receipt.output_tokens) == (22, 249)
    assert (row.receipt.model, row.receipt.video_minutes) == ("pegasus1.2", 1.0)
    assert server.bodies("POST /analyze") == [
        {"video_id": VIDEO_ID, "prompt": "What happens?", "stream": False}
    ]


@pytest.mark.parametrize(
    "name", ["analyze_nostream_pegasus15_json_by_prompt", "analyze_nostream_pegasus15_leading_newlines"]
)
def test_an_analysis_of_today(server: ReplayServer, settings: Settings, name: str) -> None:
    answer = seen(name)
    video = {"type": "asset_id", "asset_id": ASSET_ID}
    server.replay(name)
    plain = by_client(settings, lambda c: c.analyze(video, "Is it so?"))
    assert answer["data"].startswith("\n\n{")
    assert plain["data"] == answer["data"].lstrip()
    assert plain["usage"] == {"output_tokens": 91}
    assert server.bodies("POST /analyze")[0]["model_name"] == "pegasus1.5"
    # With garbage behind it, as Pegasus 1.5 at times writes.
    server.routes.clear()
    server.replay(name, change=lambda text: text.replace('\\n}"', '\\n}\\"}]}\\"}]}"'))
    form = {"type": "json_schema", "json_schema": {"type": "object"}}
    exact = by_client(settings, lambda c: c.analyze(video, "Is it so?", response_format=form))
    assert json.loads(exact["data"]) == json.loads(answer["data"])


@pytest.mark.parametrize(
    ("name", "definition", "end", "field", "value"),
    [
        ("analyze_task_ready_segments_pegasus15", "scenes", 8.0, "characters", ["Golden Retriever"]),
        ("analyze_task_ready_booleans_pegasus15", "lipsync", 5.0, "speech_audible", True),
    ],
)
def test_segments(
    server: ReplayServer,
    connection: Connection,
    name: str,
    definition: str,
    end: float,
    field: str,
    value: Any,
) -> None:
    task = seen(name)
    asset = task["video_source"]["asset_id"]
    server.say("GET /analyze/tasks", TODAY)
    server.say(f"GET /indexes/{INDEX_ID}/videos/{VIDEO_ID}", {"_id": VIDEO_ID, "asset_id": asset})
    server.say("POST /analyze/tasks", {"task_id": task["task_id"], "status": "queued"}, status=202)
    server.states(name, "queued", "processing")
    server.replay(name)
    asked = task["request_params"]["response_format"]["segment_definitions"]
    given = {"video": VIDEO_ID, "definitions": json.dumps(asked)}
    [row] = connection.map(FUNCTIONS["segments"], [given])
    assert row.error is None
    [segment] = row.value
    assert (segment["definition"], segment["start_sec"], segment["end_sec"]) == (definition, 0.0, end)
    assert json.loads(segment["fields"])[field] == value
    duration = task["video_source"]["system_metadata"]["duration"]
    assert row.receipt.video_minutes == pytest.approx(duration / 60)
    usage = task["result"]["usage"]
    assert (row.receipt.input_tokens, row.receipt.output_tokens) == (
        usage["input_tokens"],
        usage["output_tokens"],
    )
    [body] = server.bodies("POST /analyze/tasks")
    assert body["video"] == {"type": "asset_id", "asset_id": asset}
    assert (body["model_name"], body["analysis_mode"]) == ("pegasus1.5", "time_based_metadata")
    assert "prompt" not in body
    [request] = server.asked("POST /analyze/tasks")
    assert request.headers["idempotency-key"] == f"{body['custom_id']}-0"
    shown = analyze_task_row(task)
    assert (shown["task_id"], shown["asset_id"], shown["duration_sec"]) == (task["task_id"], asset, duration)
    assert shown["completed_at"].tzinfo is not None


def test_gist_and_summaries_of_2025(server: ReplayServer, connection: Connection) -> None:
    video_of_2025(server)
    gist = seen("gist_pegasus12")
    server.replay("gist_pegasus12")
    assert call(connection, "gist", video=VIDEO_ID) == {
        "title": gist["title"],
        "topics": ["Urban Traffic and Pedestrian Movement"],
        "hashtags": ["StreetTraffic", "Vehicles", "Pedestrians", "Intersection", "UrbanScenes"],
    }
    summary = seen("summarize_summary_pegasus12")
    chapters, highlights = seen("summarize_chapters_pegasus12"), seen("summarize_highlights_pegasus12")
    server.replay(
        "summarize_summary_pegasus12", "summarize_chapters_pegasus12", "summarize_highlights_pegasus12"
    )
    assert call(connection, "summarize", video=VIDEO_ID) == summary["summary"]
    rows = call(connection, "chapters", video=VIDEO_ID)
    assert [(r["chapter_number"], r["start_sec"], r["end_sec"]) for r in rows] == [(0, 0, 45), (1, 71, 112)]
    assert [r["title"] for r in rows] == ["Traffic and Bicycle Rider", "Pedestrians Crossing"]
    assert [r["summary"] for r in rows] == [c["chapter_summary"] for c in chapters["chapters"]]
    rows = call(connection, "highlights", video=VIDEO_ID)
    assert [(r["start_sec"], r["end_sec"]) for r in rows] == [(0, 5), (71, 85), (86, 105), (106, 112)]
    assert [r["highlight"] for r in rows] == [h["highlight"] for h in highlights["highlights"]]
    assert [r["summary"] for r in rows] == [h["highlight_summary"] for h in highlights["highlights"]]


def test_speakers_are_rows(server: ReplayServer, connection: Connection) -> None:
    """The shape of utterances is documented, and nobody recorded them."""
    server.say("GET /analyze/tasks", TODAY)
    server.say(f"GET /indexes/{INDEX_ID}/videos/{VIDEO_ID}", {"_id": VIDEO_ID, "asset_id": ASSET_ID})
    spoken = [
        {"start": 0, "end": 2.5, "value": "Where is the exit?", "speaker": "speaker_0"},
        {"start": 2.5, "end": 4, "value": "Over there.", "speaker": None},
    ]
    route = f"GET /assets/{ASSET_ID}/transcription"
    server.say(route, {"status": "processing"}, {"status": "ready", "utterances": spoken})
    rows = call(connection, "transcript", video=VIDEO_ID, unit="speaker")
    assert [(r["start_sec"], r["end_sec"], r["text"], r["speaker"]) for r in rows] == [
        (0, 2.5, "Where is the exit?", "speaker_0"),
        (2.5, 4, "Over there.", None),
    ]
    assert [request.query for request in server.asked(route)] == [[("include", "utterances")]] * 2


# ---- search -------------------------------------------------------------------------------------


def test_a_search_that_ranks_only(server: ReplayServer, connection: Connection) -> None:
    answer = seen("search_marengo30_visual_clip")
    token = answer["page_info"]["next_page_token"]
    assert len(token) == 34  # 32 hex digits and the page
    server.say(f"GET /indexes/{INDEX_ID}", MARENGO_30)
    server.replay("search_marengo30_visual_clip")
    second = {"rank": 6, "start": 22.5, "end": 30, "video_id": VIDEO_ID, "transcription": "a meadow"}
    server.say(f"GET /search/{token}", {"data": [second], "page_info": {"limit_per_page": 5}})
    rows = call(connection, "search", index_id=INDEX_ID, query_text="a bunny in a green meadow", max_hits=9)
    assert [r["rank"] for r in rows] == [1, 2, 3, 4, 5, 6]
    assert [(r["start_sec"], r["end_sec"]) for r in rows[:4]] == [
        (12.899999618530273, 22.5),
        (37.599998474121094, 46),
        (30.100000381469727, 37.599998474121094),
        (0, 5.699999809265137),
    ]
    assert {r["video_id"] for r in rows} == {VIDEO_ID}
    nothing = ("score", "confidence", "thumbnail_url", "user_metadata")
    assert all(r[name] is None for r in rows for name in nothing)
    assert [r["transcription"] for r in rows] == [None] * 5 + ["a meadow"]
    sent = server.asked("POST /search")[0].fields
    assert [v for n, v in sent if n == "search_options"] == ["visual", "audio", "transcription"]


def test_times_of_hits() -> None:
    rows = [_hit(clip, n) for n, clip in enumerate(seen("search_marengo30_times")["clips"], 1)]
    assert [(r["start_sec"], r["end_sec"]) for r in rows][:2] == [(335.0, 340.25), (1889.25, 1896.5)]
    assert [r["rank"] for r in rows] == [1, 2, 3, 4, 5]


def test_a_page_limit_of_nothing_is_taken() -> None:
    """Of this one no body is known; only that it was no refusal."""
    assert seen("search_page_limit_zero_accepted") is None
    assert recording("search_page_limit_zero_accepted").status == 200


# ---- vectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["embed_text_marengo27", "embed_text_marengo30"])
def test_vectors_of_text(server: ReplayServer, connection: Connection, name: str) -> None:
    answer = seen(name)
    server.replay(name, route="POST /embed")
    vector = call(connection, "embed_text", text="a rabbit in a forest")
    assert vector == pytest.approx(answer["text_embedding"]["segments"][0]["float"])


def test_vectors_of_pictures_and_sounds(server: ReplayServer, connection: Connection, tmp_path: Path) -> None:
    image, audio = seen("embed_image_marengo27"), seen("embed_audio_marengo27")
    server.replay("embed_image_marengo27", "embed_audio_marengo27")
    (tmp_path / "a.png").write_bytes(b"\x89PNG and so on")
    (tmp_path / "a.wav").write_bytes(b"RIFF and so on")
    vector = call(connection, "embed_image", image=str(tmp_path / "a.png"))
    assert vector == pytest.approx(image["image_embedding"]["segments"][0]["float"])
    [row] = call(connection, "audio_vectors", audio=str(tmp_path / "a.wav"))
    assert (row["start_sec"], row["end_sec"]) == (0.0, None)
    assert row["vector"] == pytest.approx(audio["audio_embedding"]["segments"][0]["float"])


def test_vectors_of_embedding_tasks(server: ReplayServer, settings: Settings) -> None:
    task = seen("embed_task_marengo27_segments")
    server.say(f"GET /embed/tasks/{task['_id']}", task)
    rows = segments(by_client(settings, lambda c: c.retrieve_embed_task(task["_id"])))
    assert [(r["start_sec"], r["end_sec"]) for r in rows] == [(0, 6), (6, 12), (12, 18), (18, 21.087732)]
    assert {(r["embedding_scope"], r["embedding_option"]) for r in rows} == {("clip", None)}
    assert rows[3]["vector"] == [0.013078023, 0.0050402153, -0.01801952]
    [row] = vector_rows([seen("embed_task_marengo27_counts")["segment"]])
    assert (row["embedding_option"], len(row["vector"])) == ("visual-text", 5)


# ---- videos and tasks ---------------------------------------------------------------------------


def test_the_record_of_a_video(server: ReplayServer, connection: Connection) -> None:
    video = seen("videos_retrieve_marengo27")
    record = video_record(video, INDEX_ID, None)
    assert {name: record[name] for name in ("duration_sec", "width", "height", "fps", "size_bytes")} == {
        "duration_sec": 112.361667,
        "width": 1920,
        "height": 1080,
        "fps": 50.0,
        "size_bytes": 72844586,
    }
    assert record["asset_id"] is None
    server.say(f"GET /indexes/{INDEX_ID}", {"_id": INDEX_ID, "models": [{"model_name": "marengo2.7"}]})
    server.say(f"GET /indexes/{INDEX_ID}/videos/{video['_id']}", video)
    rows = call(connection, "video_vectors", video=video["_id"])
    assert len(rows) == 12
    assert rows[11]["end_sec"] == 112.361664
    assert {(r["embedding_scope"], r["embedding_option"]) for r in rows} == {("clip", "visual-text")}


def test_the_list_of_videos(server: ReplayServer, connection: Connection) -> None:
    item = seen("videos_list_item_marengo30")
    server.say(f"GET /indexes/{INDEX_ID}/videos", {"data": [item], "page_info": {"total_page": 1}})
    [batch] = connection.batches(LISTINGS["videos"])
    [row] = batch.to_pylist()
    assert (row["video_id"], row["filename"], row["duration_sec"]) == (item["_id"], "clip.mp4", None)
    assert json.loads(row["user_metadata"]) == item["user_metadata"]
    assert json.loads(row["user_metadata"])["match_id"] == 8748176000


def test_indexing_by_task(server: ReplayServer, settings: Settings) -> None:
    made, ready = seen("tasks_create"), seen("tasks_retrieve_ready")
    states = [*recording("tasks_create").facts["statuses_seen_while_polling"][:-1]]
    states += [s for s in seen("tasks_statuses_2025")["statuses"] if s not in (*states, "ready")]
    server.replay("tasks_create")
    server.states("tasks_retrieve_ready", *states)
    server.replay("tasks_retrieve_ready")

    async def main() -> tuple[Any, Any]:
        async with Client(settings, base_url=str(settings.base_url)) as client:
            task = await client.create_task(INDEX_ID, video_url="https://media.example/a.mp4")
            watcher = TaskWatcher(client, settings)
            try:
                return task, await watcher.wait(task["_id"], INDEX_ID)
            finally:
                await watcher.aclose()

    task, ended = asyncio.run(main())
    assert (task["_id"], task["video_id"]) == (made["_id"], made["video_id"])
    assert ended["system_metadata"] == ready["system_metadata"]
    assert len(server.asked(f"GET /tasks/{made['_id']}")) == len(states) + 1


def test_making_an_index(server: ReplayServer, settings: Settings) -> None:
    made = seen("indexes_create")
    server.replay("indexes_create")
    models = [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}]
    assert by_client(settings, lambda c: c.create_index("an index", models)) == made["_id"]


# ---- refusals and limits ------------------------------------------------------------------------

REFUSALS: dict[str, tuple[type[TLDataError], str, int, bool]] = {
    "error_analyze_video_id": (BadRequest, "parameter_invalid", 400, True),
    "error_embed_json_content_type": (BadRequest, "content_type_invalid", 400, True),
    "error_embed_marengo27_withdrawn": (BadRequest, "parameter_invalid", 400, True),
    "error_embed_v2_text_not_object": (BadRequest, "parameter_invalid", 400, False),
    "error_indexes_create_pegasus": (BadRequest, "parameter_invalid", 400, False),
    "error_read_not_allowed": (NotAllowed, "read_not_allowed", 403, False),
    "error_search_transcription_options": (BadRequest, "parameter_invalid", 400, False),
    "error_429_requests_per_day": (RateLimited, "too_many_requests", 429, False),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_has_its_class_and_says_who_is_to_blame(name: str) -> None:
    kind, code, status, release = REFUSALS[name]
    body = json.dumps(seen(name)).encode()
    error = error_from(status, recording(name).headers, body, "POST /x")
    assert (type(error), error.code, error.http_status) == (kind, code, status)
    assert is_shape_refusal(error.code, str(error)) is release
    assert Failure.of(error).retryable is (release or not isinstance(error, BadRequest))


def test_a_refusal_of_the_request_format_is_not_final(server: ReplayServer, settings: Settings) -> None:
    server.replay("error_analyze_video_id", route="POST /analyze")
    with pytest.raises(BadRequest, match="this release of tl_data, not"):
        by_client(settings, lambda c: c.analyze(VIDEO_ID, "?"))


def test_a_limit_of_a_day_is_not_waited_for(server: ReplayServer, settings: Settings) -> None:
    server.replay("error_429_requests_per_day")
    with pytest.raises(QuotaExhausted) as caught:
        by_client(settings, lambda c: c.embed("marengo3.0", text="a"))
    assert (caught.value.retry_after, caught.value.request_id) == (11382, "122506435189331138")


def test_limits_of_requests_and_of_seconds_of_video() -> None:
    headers = recording("error_search_transcription_options").headers
    found = reported_limits(headers)
    assert found["requests"][:2] == (1500, 1470)
    assert found["requests"][2] == pytest.approx(6)
    seen("headers_embed_tasks_duration")
    headers = recording("headers_embed_tasks_duration").headers
    assert reported_limits(headers) == {}  # a limit without what is left of it
    left = {"x-ratelimit-duration-remaining": "120", "x-ratelimit-duration-reset": "1783560600"}
    limit, remaining, _ = reported_limits(headers | left)["minutes"]
    assert (limit, remaining) == (600, 2)


def test_no_recording_is_left_out() -> None:
    assert tested == set(NAMES)
