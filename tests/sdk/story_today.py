"""Every resource of the service of today with the Python SDK 1.3.6: run by an interpreter of its own."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from twelvelabs import TwelveLabs
from twelvelabs.core.api_error import ApiError

_, FILM, FILM_URL, IMAGE, _, _ = sys.argv
client = TwelveLabs(api_key="tlk_any", base_url=os.environ["TWELVELABS_BASE_URL"])
ASKED = "What text is shown?"
DONE = ("ready", "failed", "canceled", "completed", "expired")


def until_done(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while (found := look()).status not in DONE:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def refusal(attempt: Callable[[], object]) -> tuple[int | None, str]:
    """Status and code of an error, flat or nested."""
    try:
        attempt()
    except ApiError as error:
        body = error.body if isinstance(error.body, dict) else error.body.dict()
        return error.status_code, body.get("code") or body["error"]["code"]
    raise AssertionError("it was not refused")


def faults(*rules: dict[str, Any]) -> None:
    """Set the faults of the engine."""
    address = os.environ["TWELVELABS_BASE_URL"].removesuffix("/v1.3") + "/_engine/faults"
    body = json.dumps({"fault": rules}).encode()
    request = urllib.request.Request(address, body, {"content-type": "application/json"}, method="PUT")
    urllib.request.urlopen(request).close()


def asset_of(path: str, **more: Any) -> Any:
    with open(path, "rb") as file:
        made = client.assets.create(method="direct", file=file, **more)
    assert made.status == "processing"
    return until_done(lambda: client.assets.retrieve(made.id))


# ------------------------------------------------------------------------------------ assets and indexes
asset = asset_of(FILM, user_metadata=json.dumps({"from": "asset"}))
picture = asset_of(IMAGE)
assert (asset.status, picture.status, asset.technical_metadata.video_width) == ("ready", "ready", 480)
by_url = client.assets.create(method="url", url=FILM_URL)
assert until_done(lambda: client.assets.retrieve(by_url.id)).status == "ready"
assert asset.id in [one.id for one in client.assets.list(asset_types=["video"], filename="plain")]
client.assets.update_user_metadata(asset.id, user_metadata={"more": 1})
client.assets.replace_user_metadata(asset.id, user_metadata={"only": True})
assert client.assets.retrieve(asset.id).user_metadata == {"only": True}
client.assets.delete_user_metadata(asset.id)
uploaded = client.multipart_upload.upload_file(FILM, file_type="video")
assert until_done(lambda: client.assets.retrieve(uploaded.asset_id)).status == "ready"
parts = client.multipart_upload.create(filename="film.mp4", type="video", total_size=20 << 20)
more = client.multipart_upload.get_additional_presigned_urls(parts.upload_id, start=2, count=2)
assert [one.chunk_index for one in more.upload_urls] == [2, 3]
assert [chunk.status for chunk in client.multipart_upload.get_status(parts.upload_id)] == ["pending"] * 3
assert parts.upload_id in [one.upload_id for one in client.multipart_upload.list_incomplete_uploads()]

index = client.indexes.create(
    index_name="story of today",
    models=[{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}],
)
pegasus = [{"model_name": "pegasus1.5", "model_options": ["visual"]}]
assert refusal(lambda: client.indexes.create(index_name="p", models=pegasus)) == (400, "parameter_invalid")
client.indexes.update(index.id, index_name="story of today renamed")
found = client.indexes.retrieve(index.id)
assert (found.index_name, found.models[0].model_name) == ("story of today renamed", "marengo3.0")
assert index.id in [one.id for one in client.indexes.list()]
indexed = client.indexes.indexed_assets.create(index.id, asset_id=asset.id, user_metadata={"number": 1})
ready = until_done(lambda: client.indexes.indexed_assets.retrieve(index.id, indexed.id))
assert (ready.status, ready.asset_id, ready.user_metadata) == ("ready", asset.id, {"number": 1})
assert [one.id for one in client.indexes.indexed_assets.list(index.id, status=["ready"])] == [indexed.id]
assert [one.id for one in client.indexes.indexed_assets.list_by_asset(asset.id)] == [indexed.id]
client.indexes.indexed_assets.update(index.id, indexed.id, user_metadata={"number": 2})
vectors = client.indexes.indexed_assets.retrieve(index.id, indexed.id, embedding_option=["visual"])
assert {len(s.float_) for s in vectors.embedding.video_embedding.segments} == {512}
assert refusal(lambda: client.assets.delete(asset.id)) == (409, "asset_in_use")
with open(FILM, "rb") as file:
    task = client.tasks.create(index_id=index.id, video_file=file, user_metadata='{"n": 1}')
assert task.id == task.video_id
assert client.tasks.wait_for_done(task_id=task.id, sleep_interval=0.3).status == "ready"
assert task.id in [one.id for one in client.tasks.list(status=["ready"])]
video = client.indexes.videos.retrieve(index.id, task.video_id, transcription=True)
assert video.asset_id == task.video_id
client.indexes.videos.update(index.id, task.video_id, user_metadata={"n": 2})
assert {one.id for one in client.indexes.videos.list(index.id)} == {indexed.id, task.video_id}

# --------------------------------------------------------------------------------------------- search
pager = client.search.query(
    index_id=index.id, search_options=["visual", "audio", "transcription"], query_text="Blue ship",
    page_limit=1, threshold="high",
)  # fmt: skip
hits = list(pager)
assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
assert {hit.video_id for hit in hits} == {indexed.id, task.video_id}
assert getattr(hits[0], "score", None) is None
with open(IMAGE, "rb") as file:
    alike = client.search.query(
        index_id=index.id, search_options=["visual"], query_media_type="image", query_media_file=file
    )
    assert next(iter(alike)).rank == 1

# -------------------------------------------------------------------------------------------- analyze
source = {"type": "asset_id", "asset_id": asset.id}
answer = client.analyze(model_name="pegasus1.5", video=source, prompt=ASKED, start_time=0, end_time=3)
assert "Blue ship" in answer.data
assert answer.usage.output_tokens
events = list(
    client.analyze_stream(model_name="pegasus1.6", video={"type": "url", "url": FILM_URL}, prompt=ASKED)
)
assert (events[0].event_type, events[-1].event_type) == ("stream_start", "stream_end")
schema = {
    "type": "object",
    "properties": {"at": {"type": "timestamp", "format": "hh:mm:ss"}},
    "required": ["at"],
}
shaped = client.analyze(
    model_name="pegasus1.5", video=source, prompt="When does it begin?",
    response_format={"type": "json_schema", "json_schema": schema},
)  # fmt: skip
assert len(json.loads(shaped.data)["at"]) == len("00:00:00")
old = {"additional_body_parameters": {"video_id": task.video_id}}
assert refusal(lambda: client.analyze(prompt=ASKED, request_options=old)) == (400, "parameter_invalid")
asked = client.analyze_async.tasks.create(
    model_name="pegasus1.5", custom_id="story-1", video=source, analysis_mode="time_based_metadata",
    response_format={
        "type": "segment_definitions",
        "segment_definitions": [{"id": "scene", "description": "Each scene"}],
    },
)  # fmt: skip
finished = until_done(lambda: client.analyze_async.tasks.retrieve(asked.task_id))
assert (finished.status, finished.custom_id) == ("ready", "story-1")
assert json.loads(finished.result.data)["scene"]
assert asked.task_id in [one.task_id for one in client.analyze_async.tasks.list(asset_id=asset.id).data]
assert refusal(lambda: client.analyze_async.tasks.cancel(asked.task_id))[0] == 409
client.analyze_async.tasks.delete(asked.task_id)
batch = client.analyze_async.batches.create(
    model_name="pegasus1.5", analysis_mode="general", defaults={"prompt": {"input_text": ASKED}},
    requests=[{"video": source, "custom_id": "a"}, {"video": source, "custom_id": "b", "end_time": 9000.0}],
)  # fmt: skip
ended = until_done(lambda: client.analyze_async.batches.retrieve(batch.batch_id))
assert (ended.status, ended.ready_items, ended.failed_items) == ("completed", 1, 1)
lines = list(client.analyze_async.batches.results(batch.batch_id))
assert [(line.custom_id, line.status) for line in lines] == [("a", "ready"), ("b", "failed")]
assert batch.batch_id in [one.batch_id for one in client.analyze_async.batches.list(status=["completed"])]
assert refusal(lambda: client.analyze_async.batches.cancel(batch.batch_id))[0] == 409
client.analyze_async.batches.delete(batch.batch_id)
faults({"kind": "stuck", "route": "/analyze/*", "method": "POST", "state": "queued", "share": 1.0})
waiting = client.analyze_async.tasks.create(model_name="pegasus1.5", video=source, prompt=ASKED)
assert client.analyze_async.tasks.cancel(waiting.task_id).status == "canceled"
held = client.analyze_async.batches.create(
    model_name="pegasus1.5", analysis_mode="general", defaults={"prompt": {"input_text": ASKED}},
    requests=[{"video": source}],
)  # fmt: skip
assert client.analyze_async.batches.cancel(held.batch_id).status == "canceled"
faults()

# -------------------------------------------------------------------------------------------- vectors
assert (
    len(client.embed.create(model_name="marengo3.0", text="a red car").text_embedding.segments[0].float_)
    == 512
)
text = client.embed.v_2.create(input_type="text", model_name="marengo3.0", text={"input_text": "a red car"})
assert len(text.data[0].embedding) == 512
both = client.embed.v_2.create(
    input_type="multi_input", model_name="marengo3.5", embedding_dimension=256,
    multi_input={"input_text": "red", "media_sources": [{"media_type": "image", "asset_id": picture.id}]},
)  # fmt: skip
assert (len(both.data[0].embedding), both.metadata.embedding_dimension) == (256, 256)
made = client.embed.v_2.tasks.create(
    input_type="video", model_name="marengo3.0",
    video={"media_source": {"asset_id": asset.id}, "embedding_option": ["visual"]},
)  # fmt: skip
done = until_done(lambda: client.embed.v_2.tasks.retrieve(made.id))
assert {item.embedding_scope for item in done.data} == {"clip", "asset"}
assert made.id in [one.id for one in client.embed.v_2.tasks.list()]
with open(FILM, "rb") as file:
    old_task = client.embed.tasks.create(model_name="marengo3.0", video_file=file)
assert client.embed.tasks.wait_for_done(task_id=old_task.id, sleep_interval=0.3).status == "ready"
assert client.embed.tasks.retrieve(task_id=old_task.id).video_embedding.segments
assert old_task.id in [one.id for one in client.embed.tasks.list()]

# ------------------------------------------------------------------------------------------- entities
team = client.entity_collections.create(name="team", description="d")
assert client.entity_collections.update(team.id, name="team2").name == "team2"
assert client.entity_collections.retrieve(team.id).name == "team2"
assert team.id in [one.id for one in client.entity_collections.list(name="team2")]
people = client.entity_collections.entities
ada = people.create(team.id, name="Ada", asset_ids=[picture.id], metadata={"role": "host"})
assert ada.status == "processing"
until_done(lambda: people.retrieve(team.id, ada.id))
bulk = people.create_bulk(team.id, entities=[{"name": "Bob", "asset_ids": ["0" * 24]}])
assert (bulk.success_count, bulk.errors[0].entity_name) == (0, "Bob")
assert people.update(team.id, ada.id, metadata={"n": 1}).metadata == {"n": 1}
assert [one.id for one in people.list(team.id, name="Ada")] == [ada.id]
assert [one.id for one in people.list_by_asset(picture.id)] == [ada.id]
seen = client.search.query(index_id=index.id, search_options=["visual"], query_text=f"<@{ada.id}>")
assert next(iter(seen)).rank == 1
people.create_assets(team.id, ada.id, asset_ids=[picture.id])
assert refusal(lambda: people.delete_assets(team.id, ada.id, asset_ids=[picture.id]))[0] == 400
people.delete(team.id, ada.id)
client.entity_collections.delete(team.id)

# ------------------------------------------------------------------------------- not built, and the end
for attempt in (
    lambda: list(client.knowledge_stores.list()),
    lambda: client.knowledge_stores.retrieve("ks_1"),
):
    assert refusal(attempt) == (501, "not_supported")
client.indexes.videos.delete(index.id, task.video_id)
client.tasks.delete(task.id)
client.indexes.indexed_assets.delete(index.id, indexed.id)
client.assets.delete(asset.id)
client.assets.delete(by_url.id, force=True)
client.indexes.delete(index.id)
