"""An account of 2025 with the Python SDK 1.2.8: run by an interpreter of its own."""

from __future__ import annotations

import os
import sys

from twelvelabs import TwelveLabs
from twelvelabs.core.api_error import ApiError

_, FILM, FILM_URL, IMAGE, _, _ = sys.argv
client = TwelveLabs(api_key="tlk_any", base_url=os.environ["TWELVELABS_BASE_URL"])

options = ["visual", "audio"]
index = client.indexes.create(
    index_name="story 1.2",
    models=[
        {"model_name": "marengo2.7", "model_options": options},
        {"model_name": "pegasus1.2", "model_options": options},
    ],
)
client.indexes.update(index.id, index_name="story 1.2 renamed")
assert client.indexes.retrieve(index.id).index_name == "story 1.2 renamed"
assert index.id in [one.id for one in client.indexes.list(index_name="story 1.2 renamed")]
with open(FILM, "rb") as file:
    task = client.tasks.create(index_id=index.id, video_file=file)
assert client.tasks.wait_for_done(task_id=task.id, sleep_interval=0.3).status == "ready"
by_url = client.tasks.create(index_id=index.id, video_url=FILM_URL)
assert client.tasks.wait_for_done(task_id=by_url.id, sleep_interval=0.3).status == "ready"
assert {one.id for one in client.tasks.list(index_id=index.id, status=["ready"])} == {task.id, by_url.id}
video_id = client.tasks.retrieve(task.id).video_id
client.indexes.videos.update(index.id, video_id, user_metadata={"n": 7})
video = client.indexes.videos.retrieve(index.id, video_id, embedding_option=["visual-text"])
assert video.user_metadata == {"n": 7}
assert {len(part.float_) for part in video.embedding.video_embedding.segments} == {1024}
assert len(list(client.indexes.videos.list(index.id))) == 2

ask = {"index_id": index.id, "search_options": ["visual"], "query_text": "Blue ship"}
hits = list(client.search.query(**ask, page_limit=1, threshold="low"))
assert {hit.video_id for hit in hits} == {video_id, client.tasks.retrieve(by_url.id).video_id}
assert hits[0].score > 0
assert hits[0].confidence in ("high", "medium", "low")
with open(IMAGE, "rb") as file:
    alike = client.search.query(
        index_id=index.id, search_options=["visual"], query_media_type="image", query_media_file=file
    )
    assert next(iter(alike)).score > 0

answer = client.analyze(video_id=video_id, prompt="What text is shown?")
assert "Blue ship" in answer.data
events = client.analyze_stream(video_id=video_id, prompt="What text is shown?")
assert "".join(e.text for e in events if e.event_type == "text_generation") == answer.data

model = "Marengo-retrieval-2.7"
assert len(client.embed.create(model_name=model, text="a red car").text_embedding.segments[0].float_) == 1024
with open(FILM, "rb") as file:
    made = client.embed.tasks.create(model_name=model, video_file=file)
assert client.embed.tasks.wait_for_done(task_id=made.id, sleep_interval=0.3).status == "ready"
assert client.embed.tasks.retrieve(task_id=made.id).video_embedding.segments
assert made.id in [one.id for one in client.embed.tasks.list()]

client.indexes.videos.delete(index.id, video_id)
client.tasks.delete(task.id)
client.indexes.delete(index.id)
try:
    client.indexes.retrieve(index.id)
except ApiError as error:
    assert error.status_code == 404  # noqa: PT017
else:
    raise AssertionError("the index is still there")
