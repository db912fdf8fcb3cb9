"""The whole story with the official Python SDK 0.4: run by an interpreter of its own."""

from __future__ import annotations

import sys
import time
import warnings

import twelvelabs
from twelvelabs import TwelveLabs

_, FILM, FILM_URL, IMAGE, IMAGE_URL, INTEGRATION = sys.argv
client = TwelveLabs(api_key="tlk_any")

index = client.index.create(
    name="story python 0.4",
    models=[
        {"name": "marengo2.7", "options": ["visual", "audio"]},
        {"name": "pegasus1.2", "options": ["visual", "audio"]},
    ],
    addons=["thumbnail"],
)
assert index.id
assert index.name == "story python 0.4"
assert index.models[0].options == ["visual", "audio"]
client.index.update(index.id, "story renamed")
assert client.index.retrieve(index.id).name == "story renamed"
assert [i.id for i in client.index.list(name="story renamed")] == [index.id]
pages = client.index.list_pagination(page_limit=1)
assert pages.page_info.total_results >= 1

refused = None
try:
    client.index.create(name="story renamed", models=[{"name": "marengo2.7", "options": ["visual"]}])
except twelvelabs.exceptions.ConflictError as error:
    refused = error.body["code"]
assert refused == "index_name_already_exists"
missing = None
try:
    client.index.retrieve("0123456789abcdef01234567")
except twelvelabs.exceptions.NotFoundError as error:
    missing = error.body["code"]
assert missing == "resource_not_exists"

by_file = client.task.create(index_id=index.id, file=FILM)
by_url = client.task.create(index_id=index.id, url=FILM_URL, enable_video_stream=True)
seen: list[str] = []
by_file.wait_for_done(sleep_interval=0.5, callback=lambda task: seen.append(task.status))
by_url.wait_for_done(sleep_interval=0.5)
assert (by_file.status, by_url.status) == ("ready", "ready"), (by_file, by_url)
assert {t.id for t in client.task.list(index_id=index.id)} == {by_file.id, by_url.id}
assert client.task.list_pagination(index_id=index.id, page_limit=1).page_info.total_page == 2
assert client.task.status(index.id).ready == 2
assert client.task.retrieve(by_file.id).hls.video_url

bucket = client.index.create(
    name="story python 0.4 imported", models=[{"name": "marengo2.7", "options": ["visual"]}]
)
imported = client.task.transfers.import_videos(INTEGRATION, bucket.id, user_metadata={"from": "bucket"})
assert [video.filename for video in imported.videos] == ["bucket.mp4"]
while not (ready := client.task.transfers.import_status(INTEGRATION, bucket.id).ready):
    time.sleep(0.2)
assert ready[0].video_id == imported.videos[0].video_id
assert client.task.transfers.import_logs(INTEGRATION)[-1].video_status.ready == 1
client.index.delete(bucket.id)

videos = client.index.video.list(index.id, duration={"gte": 4, "lte": 60}, width=480, page_limit=10)
assert {v.id for v in videos} == {by_file.video_id, by_url.video_id}
client.index.video.update(
    index.id, by_file.video_id, user_metadata={"source": "file", "number": 5, "good": True}
)
assert [v.id for v in client.index.video.list(index.id, user_metadata={"source": "file", "good": True})] == [
    by_file.video_id
]
video = client.index.video.retrieve(index.id, by_file.video_id, embedding_option=["visual-text", "audio"])
assert video.user_metadata == {"source": "file", "number": 5, "good": True}
assert video.embedding.video_embedding.segments[0].embeddings_float

found = client.search.query(
    index_id=index.id, query_text="Blue ship", options=["visual", "audio"], page_limit=1, threshold="low",
    operator="or", sort_option="score", adjust_confidence_level=0.5,
)  # fmt: skip
hits = list(found.data)
while True:
    try:
        hits += next(found)
    except StopIteration:
        break
assert {hit.video_id for hit in hits} == {by_file.video_id, by_url.video_id}
assert hits[0].score > 0
assert hits[0].confidence in ("high", "medium", "low")
grouped = client.search.query(index_id=index.id, query_text="Blue ship", options=["visual"], group_by="video")
assert {group.id for group in grouped.data} == {by_file.video_id, by_url.video_id}
assert grouped.data[0].clips[0].score > 0
only = client.search.query(
    index_id=index.id,
    query_text="Blue ship",
    options=["visual"],
    filter={"id": [by_file.video_id], "number": {"gte": 5}},
)
assert {hit.video_id for hit in only.data} == {by_file.video_id}
for image in ({"query_media_file": IMAGE}, {"query_media_url": IMAGE_URL}):
    pictured = client.search.query(index_id=index.id, query_media_type="image", options=["visual"], **image)
    assert {hit.video_id for hit in pictured.data} == {by_file.video_id, by_url.video_id}

gist = client.gist(by_file.video_id, types=["title", "topic", "hashtag"])
assert gist.title
assert gist.topics is not None
assert client.summarize(by_file.video_id, type="summary", prompt="in one sentence").summary
assert client.summarize(by_file.video_id, type="chapter").chapters[0].chapter_title
assert client.summarize(by_file.video_id, type="highlight", temperature=0.3).highlights[0].highlight_summary
answer = client.analyze(by_file.video_id, "What text is shown?")
assert "Blue ship" in answer.data
assert answer.usage.output_tokens > 0
stream = client.analyze_stream(video_id=by_file.video_id, prompt="What text is shown?")
assert "".join(text for text in stream) == stream.aggregated_text == answer.data
assert stream.id
with warnings.catch_warnings(action="ignore"):  # that they have new names
    assert client.generate.text(by_file.video_id, "What text is shown?").data == answer.data
    assert "".join(client.generate.text_stream(by_file.video_id, "What text is shown?")) == answer.data

model = "Marengo-retrieval-2.7"
text = client.embed.create(model_name=model, text="a red car", text_truncate="start")
assert text.text_embedding.segments[0].embeddings_float
picture = client.embed.create(model_name=model, image_file=IMAGE)
assert picture.image_embedding.segments[0].embeddings_float
assert client.embed.create(model_name=model, image_url=IMAGE_URL).image_embedding.segments
sound = client.embed.create(model_name=model, audio_file=FILM, audio_start_offset_sec=1)
assert sound.audio_embedding.segments[0].embeddings_float
assert client.embed.create(model_name=model, audio_url=FILM_URL).audio_embedding.segments
task = client.embed.task.create(
    model_name=model, video_url=FILM_URL, video_clip_length=2, video_embedding_scopes=["clip", "video"]
)
assert client.embed.task.status(task.id).status in ("processing", "ready")
assert task.wait_for_done(sleep_interval=0.5) == "ready"
done = client.embed.task.retrieve(task.id, embedding_option=["visual-text"])
assert {s.embedding_scope for s in done.video_embedding.segments} == {"clip", "video"}
assert task.id in [t.id for t in client.embed.task.list()]

client.index.video.delete(index.id, by_url.video_id)
client.task.delete(by_url.id)
assert len(client.index.video.list(index.id)) == 1
client.index.delete(index.id)
assert [i.id for i in client.index.list(name="story renamed")] == []
