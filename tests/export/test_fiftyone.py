"""The real FiftyOne: a dataset with temporal detections and views of clips. `make test-fiftyone` has both.

TEST_MONGOD names a mongod, which the tests start; FiftyOne's own downloads one.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tl_data
from tests.support.export_lake import needs, video, write_chapters, write_clips, write_videos
from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ANNOTATIONS

pytestmark = [
    needs("fiftyone", "fiftyone"),
    pytest.mark.skipif("TEST_MONGOD" not in os.environ, reason="TEST_MONGOD names no mongod"),
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(scope="module")
def fo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """FiftyOne with a database of its own."""
    folder = tmp_path_factory.mktemp("mongo")
    port = "27918"
    command = [os.environ["TEST_MONGOD"], "--dbpath", str(folder), "--port", port, "--bind_ip", "127.0.0.1"]
    with (folder.parent / "mongod.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        os.environ |= {
            "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}",
            "FIFTYONE_DATABASE_VALIDATION": "false",
            "FIFTYONE_DO_NOT_TRACK": "true",
        }
        import pymongo

        client: Any = pymongo.MongoClient(
            os.environ["FIFTYONE_DATABASE_URI"], serverSelectionTimeoutMS=60_000
        )
        client.admin.command("ping")
        client.close()
        import fiftyone

        yield fiftyone
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    odd = 'quote\'s "x" 😀' + "y" * 1000
    write_videos(
        lake, [video("a.mp4"), video("b.mp4", fps=30000 / 1001), video("vfr.mp4", fps=17.3), video(odd)]
    )
    write_chapters(
        lake,
        [
            ("v-a.mp4", 0.0, 10.0, "Opening", "It begins."),
            ("v-a.mp4", 10.0, 60.0, "The rest", None),
            ("v-b.mp4", 1.0, 2.0, "One second", None),
            (f"v-{odd}", 0.0, 5.0, 'It\'s "odd" 😀', None),
        ],
    )
    write_clips(lake, [("v-a.mp4", 0.0, 4.0, "hello")])
    crane = {"kind": "object", "label": "crane", "start_sec": 1.0, "end_sec": 2.0, "annotation_number": 0}
    rows = [{**crane, "video_id": "v-a.mp4", "content_key": "c-a.mp4"}]
    lake.table(ANNOTATIONS).replace(rows_of(ANNOTATIONS, rows))
    return lake


def samples(dataset: Any) -> dict[str, Any]:
    return {sample.source_key: sample for sample in dataset}


def test_a_dataset_follows_the_lake(fo: Any, lake: Lake) -> None:
    name = f"videos-{time.time_ns()}"
    address = f"fiftyone://{name}?media=/films"
    how: dict[str, Any] = {"table": ["chapters", "clips", "annotations"]}
    [planned] = tl_data.export(lake.folder, address, dry_run=True, **how)
    assert (planned.upserted, fo.dataset_exists(name)) == (4, False)
    [report] = tl_data.export(lake.folder, address, **how)
    assert (report.upserted, report.refused, report.errors[0].code) == (3, 1, "no_frame_rate")
    dataset = fo.load_dataset(name)
    assert (dataset.persistent, dataset.media_type) == (True, "video")
    a = samples(dataset)["a.mp4"]
    assert a.filepath == "/films/a.mp4"
    assert [(d.label, d.support, d.text) for d in a.chapters.detections] == [
        ("Opening", [1, 250], "It begins."),
        ("The rest", [251, 1500], None),
    ]
    assert [(d.label, d.text) for d in a.clips.detections] == [("clip", "hello")]
    assert [(d.label, d.support, d.text) for d in a.annotations.detections] == [("crane", [26, 50], "object")]
    [second] = samples(dataset)["b.mp4"].chapters.detections
    assert second.support == [31, 60]  # 29.97 frames a second
    assert len(dataset.load_saved_view("tl_chapters")) == 4
    assert len(dataset.load_saved_view("tl_clips")) == 1
    [again] = tl_data.export(lake.folder, address, **how)
    assert (again.upserted, again.unchanged) == (0, 3)

    write_chapters(lake, [("v-a.mp4", 0.0, 60.0, "All", None)])
    write_videos(lake, [video("a.mp4")])
    [changed] = tl_data.export(lake.folder, address, **how)
    assert (changed.upserted, changed.deleted) == (1, 3)
    dataset = fo.load_dataset(name)
    dataset.reload()
    assert [d.label for d in samples(dataset)["a.mp4"].chapters.detections] == ["All"]
    assert len(dataset) == len(dataset.load_saved_view("tl_chapters")) == 1
    fo.delete_dataset(name)
    [filled] = tl_data.export(lake.folder, address, **how)
    assert filled.upserted == 1


def test_another_dataset_is_not_touched(fo: Any, lake: Lake) -> None:
    name = f"mine-{time.time_ns()}"
    dataset = fo.Dataset(name, persistent=True)
    dataset.add_sample(fo.Sample(filepath="/pictures/a.jpg"))
    with pytest.raises(SchemaMismatch):
        tl_data.export(lake.folder, f"fiftyone://{name}")
    assert len(dataset) == 1
    with pytest.raises(SettingsError):
        tl_data.export(lake.folder, f"fiftyone://{name}?fps=17")
