"""The whole story with the official Python SDK 1.3: run by an interpreter of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from twelvelabs import TwelveLabs, VideoContext_AssetId, VideoContext_Url
from twelvelabs.core.api_error import ApiError
from twelvelabs.indexes import IndexesCreateRequestModelsItem
from twelvelabs.types import (
    AsyncAudioInputRequest,
    AsyncVideoInputRequest,
    MediaSource,
    TextInputRequest,
    VideoInputRequest,
)

_, FILM, FILM_URL, IMAGE, IMAGE_URL, _ = sys.argv
client = TwelveLabs(api_key="tlk_any", base_url=os.environ["TWELVELABS_BASE_URL"])

index = client.indexes.create(
    index_name="story python 1.3",
    models=[
        IndexesCreateRequestModelsItem(model_name="marengo3.0", model_options=["visual", "audio"]),
        IndexesCreateRequestModelsItem(model_name="pegasus1.2", model_options=["visual", "audio"]),
    ],
    addons=["thumbnail"],
)
index_id = index.id
assert index_id
client.indexes.update(index_id, index_name="story 1.3 renamed")
assert client.indexes.retrieve(index_id).index_name == "story 1.3 renamed"
assert [i.id for i in client.indexes.list(index_name="story 1.3 renamed")] == [index_id]


def refusal(attempt: Callable[[], object]) -> tuple[int | None, str]:
    """Status and code of an error."""
    try:
        attempt()
    except ApiError as error:
        body = error.body
        return error.status_code, body["code"] if isinstance(body, dict) else body.code
    raise AssertionError("it was not refused")


only_search = [IndexesCreateRequestModelsItem(model_name="marengo3.0", model_options=["visual"])]
assert refusal(lambda: client.indexes.create(index_name="story 1.3 renamed", models=only_search)) == (
    409,
    "index_name_already_exists",
)
assert refusal(lambda: client.indexes.retrieve("0123456789abcdef01234567")) == (404, "resource_not_exists")
assert refusal(lambda: client.search.query(index_id=index_id, search_options=["visual"], query_text=" ")) == (
    400,
    "parameter_invalid",
)

with open(FILM, "rb") as file:
    by_file = client.tasks.create(
        index_id=index_id, video_file=file, user_metadata=json.dumps({"source": "file"})
    )
by_url = client.tasks.create(index_id=index_id, video_url=FILM_URL, enable_video_stream=True)
done = client.tasks.wait_for_done(task_id=by_file.id, sleep_interval=0.5, callback=lambda task: None)
assert done.status == "ready"
assert client.tasks.wait_for_done(task_id=by_url.id, sleep_interval=0.5).status == "ready"
assert {t.id for t in client.tasks.list(index_id=index_id, status=["ready", "failed"])} == {
    by_file.id,
    by_url.id,
}

assert client.tasks.retrieve(by_file.id).hls.video_url

videos = list(client.indexes.videos.list(index_id, duration={"gte": 4, "lte": 60}, page_limit=1))
assert {v.id for v in videos} == {by_file.video_id, by_url.video_id}
assert [v.id for v in client.indexes.videos.list(index_id, user_metadata={"source": "file"})] == [
    by_file.video_id
]
client.indexes.videos.update(index_id, by_file.video_id, user_metadata={"number": 5, "good": True})
video = client.indexes.videos.retrieve(
    index_id, by_file.video_id, embedding_option=["visual", "audio"], transcription=True
)
assert video.user_metadata == {"source": "file", "number": 5, "good": True}
assert video.embedding.video_embedding.segments[0].float_
assert video.system_metadata.width == 480
assert video.hls.video_url

hits = list(
    client.search.query(
        index_id=index_id, search_options=["visual", "audio", "transcription"],
        query_text="Blue ship", page_limit=1,
        operator="or", include_user_metadata=True, transcription_options=["lexical", "semantic"],
    )
)  # fmt: skip
assert {hit.video_id for hit in hits} == {by_file.video_id, by_url.video_id}
assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
assert {"number": 5, "good": True, "source": "file"} in [hit.user_metadata for hit in hits]
groups = list(
    client.search.query(
        index_id=index_id, search_options=["visual"], query_text="Blue ship", group_by="video"
    )
)
assert {group.id for group in groups} == {by_file.video_id, by_url.video_id}
only = client.search.query(
    index_id=index_id,
    search_options=["visual"],
    query_text="Blue ship",
    filter=json.dumps({"id": [by_url.video_id]}),
)
assert {hit.video_id for hit in only} == {by_url.video_id}
with open(IMAGE, "rb") as file:
    pictured = list(
        client.search.query(
            index_id=index_id, search_options=["visual"], query_media_type="image", query_media_file=file
        )
    )
assert {hit.video_id for hit in pictured} == {by_file.video_id, by_url.video_id}
composed = client.search.query(
    index_id=index_id, search_options=["visual"], query_media_type="image", query_text="Blue ship",
    query_media_urls=[IMAGE_URL, IMAGE_URL],
)  # fmt: skip
assert {hit.video_id for hit in composed} == {by_file.video_id, by_url.video_id}

old_style = {"additional_body_parameters": {"video_id": by_file.video_id}}
answer = client.analyze(prompt="What text is shown?", max_tokens=200, request_options=old_style)
assert "Blue ship" in answer.data
assert answer.finish_reason == "stop"
events = list(client.analyze_stream(prompt="What text is shown?", request_options=old_style))
assert "".join(event.text for event in events if event.event_type == "text_generation") == answer.data
assert events[0].event_type == "stream_start"
assert events[-1].event_type == "stream_end"
assert events[-1].metadata.usage.output_tokens == answer.usage.output_tokens
by_address = client.analyze(
    video=VideoContext_Url(url=FILM_URL), prompt="What text is shown?", temperature=0.2
)
assert "Blue ship" in by_address.data
assert client.analyze(video=VideoContext_AssetId(asset_id=by_file.video_id), prompt="Summarize.").data

text = client.embed.create(model_name="marengo3.0", text="a red car")
assert text.text_embedding.segments[0].float_
with open(IMAGE, "rb") as file:
    assert client.embed.create(model_name="marengo3.0", image_file=file).image_embedding.segments[0].float_
assert client.embed.create(model_name="marengo3.0", audio_url=FILM_URL).audio_embedding.segments[0].float_
with open(FILM, "rb") as file:
    task = client.embed.tasks.create(
        model_name="marengo3.0", video_file=file, video_clip_length=2, video_embedding_scope=["clip", "video"]
    )
assert client.embed.tasks.status(task_id=task.id).status in ("processing", "ready")
assert client.embed.tasks.wait_for_done(task_id=task.id, sleep_interval=0.5).status == "ready"
vectors = client.embed.tasks.retrieve(task_id=task.id, embedding_option=["visual", "audio"])
assert vectors.video_embedding.segments[0].float_
assert vectors.video_embedding.metadata.duration
assert task.id in [t.id for t in client.embed.tasks.list()]

with open(FILM, "rb") as file:
    asset = client.assets.create(method="direct", file=file, user_metadata=json.dumps({"from": "asset"}))
while client.assets.retrieve(asset.id).status != "ready":
    time.sleep(0.1)
video = VideoInputRequest(media_source=MediaSource(asset_id=asset.id))
at_once = client.embed.v_2.create(input_type="video", model_name="marengo3.0", video=video)
text = TextInputRequest(input_text="Blue ship")
assert client.embed.v_2.create(input_type="text", model_name="marengo3.0", text=text).data[0].embedding
source = AsyncVideoInputRequest(media_source=MediaSource(asset_id=asset.id))
task = client.embed.v_2.tasks.create(input_type="video", model_name="marengo3.0", video=source)
while (later := client.embed.v_2.tasks.retrieve(task.id)).status != "ready":
    time.sleep(0.1)
assert [item.embedding for item in later.data] == [item.embedding for item in at_once.data]
assert task.id in [t.id for t in client.embed.v_2.tasks.list()]
assert asset.id in [a.id for a in client.assets.list(filename="plain")]
sound = AsyncAudioInputRequest(media_source=MediaSource(asset_id=asset.id))
audio_task = client.embed.v_2.tasks.create(input_type="audio", model_name="marengo3.0", audio=sound)
while (later := client.embed.v_2.tasks.retrieve(audio_task.id)).status != "ready":
    time.sleep(0.1)
assert {item.embedding_option for item in later.data} <= {"audio", "transcription"}
client.assets.update_user_metadata(asset.id, user_metadata={"more": 1})
assert client.assets.retrieve(asset.id).user_metadata == {"from": "asset", "more": 1}
client.assets.replace_user_metadata(asset.id, user_metadata={"only": True})
assert client.assets.retrieve(asset.id).user_metadata == {"only": True}
client.assets.delete_user_metadata(asset.id)
assert not client.assets.retrieve(asset.id).user_metadata
client.assets.update_user_metadata(asset.id, user_metadata={"from": "asset"})
assert client.assets.retrieve_transcription(asset.id, include=["sentences"]).status == "ready"
question = {"prompt": "What text is shown?", "video": VideoContext_AssetId(asset_id=asset.id)}
asked = client.analyze_async.tasks.create(model_name="pegasus1.5", **question)
while (finished := client.analyze_async.tasks.retrieve(asked.task_id)).status != "ready":
    time.sleep(0.1)
assert finished.result.data == client.analyze(**question).data
listed = client.analyze_async.tasks.list(asset_id=asset.id)
assert [task.task_id for task in listed.data] == [asked.task_id]
client.analyze_async.tasks.delete(asked.task_id)
assert refusal(lambda: client.analyze_async.tasks.cancel(asked.task_id)) == (404, "resource_not_exists")
uploaded = client.multipart_upload.upload_file(FILM, file_type="video")
while client.assets.retrieve(uploaded.asset_id).status != "ready":
    time.sleep(0.1)
assert uploaded.asset_url.endswith(f"/assets/{uploaded.asset_id}")
parts = client.multipart_upload.create(filename="film.mp4", type="video", total_size=20 << 20)
more = client.multipart_upload.get_additional_presigned_urls(parts.upload_id, start=2, count=2)
assert [one.chunk_index for one in more.upload_urls] == [2, 3]
assert [chunk.status for chunk in client.multipart_upload.get_status(parts.upload_id)] == ["pending"] * 3
assert parts.upload_id in [one.upload_id for one in client.multipart_upload.list_incomplete_uploads()]
indexed = client.indexes.indexed_assets.create(index_id, asset_id=asset.id)
while (state := client.indexes.indexed_assets.retrieve(index_id, indexed.id)).status != "ready":
    time.sleep(0.1)
assert (state.asset_id, state.user_metadata) == (asset.id, {"from": "asset"})
assert [a.id for a in client.indexes.indexed_assets.list(index_id, status=["ready"])] == [indexed.id]
assert [a.id for a in client.indexes.indexed_assets.list_by_asset(asset.id)] == [indexed.id]
client.indexes.indexed_assets.update(index_id, indexed.id, user_metadata={"number": 7})
assert client.indexes.indexed_assets.retrieve(index_id, indexed.id).user_metadata["number"] == 7
client.indexes.indexed_assets.delete(index_id, indexed.id)
client.assets.delete(asset.id)

client.indexes.videos.delete(index_id, by_url.video_id)
client.tasks.delete(by_url.id)
assert len(list(client.indexes.videos.list(index_id))) == 1
client.indexes.delete(index_id)
assert list(client.indexes.list(index_name="story 1.3 renamed")) == []
