"""`tl-data serve --lake`: which videos the import adds and removes, and what it refuses."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.known import PLANT, SALES
from tl_data.errors import LakeError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import EVIDENCE, VIDEOS
from tl_data.local.config import Config
from tl_data.local.perception.evidence import MAX_JSON_BYTES
from tl_data.local.service import Stages
from tl_data.local.storage import serialization
from tl_data.local.storage.database import Store, Where
from tl_data.local.tasks.lake_import import import_lake

A, B = "a" * 24, "b" * 24


def write(folder: Path, ids: Sequence[str], evidence: bytes | None = None) -> Path:
    """A lake with these videos."""
    lake = Lake(str(folder))
    packed = serialization.pack(PLANT) if evidence is None else evidence
    rows = [{"video_id": i, "model": "tl-local-1", "form": 3, "evidence": packed} for i in ids]
    lake.table(EVIDENCE).replace(rows_of(EVIDENCE, rows))
    videos = [{"source_key": i, "video_id": i, "canonical_url": f"https://example.com/{i}"} for i in ids]
    lake.table(VIDEOS).replace(rows_of(VIDEOS, videos))
    return folder


class Home:
    """A folder of an engine."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.config = Config(home=home)
        self.store = Store(self.config.database)

    def load(self, lake: Path) -> int:
        """Import a lake, as a start with `--lake` does."""

        async def load() -> int:
            stages = Stages(self.config)
            try:
                return await import_lake(str(lake), self.config, self.store, stages)
            finally:
                await stages.close()

        return asyncio.run(load())

    def videos(self, name: str) -> set[str]:
        """The ids of the videos of an index."""
        [index] = self.store.rows("indexes", [Where("index_name", "=", name)])
        return {row["id"] for row in self.store.rows("videos", [Where("index_id", "=", index["id"])])}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    made.store.close()


def test_only_imported_videos_are_removed_with_their_folders(home: Home, tmp_path: Path) -> None:
    assert home.load(write(tmp_path / "lake", [A, B])) == 2
    assert home.config.folder(A).is_dir()
    [index] = home.store.rows("indexes")
    uploaded = "1" * 24
    home.store.add("videos", {"id": uploaded, "index_id": index["id"], "created_at": "2026"})
    home.config.folder(uploaded).mkdir()
    assert home.load(write(tmp_path / "lake", [B])) == 0
    assert home.videos("lake") == {B, uploaded}
    assert {path.name for path in home.config.folder(A).parent.iterdir()} == {B, uploaded}


def test_two_lakes_may_have_the_same_video(home: Home, tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", [A]), write(tmp_path / "two", [A, B])
    assert (home.load(one), home.load(two)) == (1, 2)
    shared = home.videos("two") - {B}
    assert home.videos("one") == {A}
    assert len(shared) == 1
    assert shared != {A}
    assert (home.load(one), home.load(two)) == (0, 0)
    home.load(write(one, []))
    assert home.videos("one") == set()
    assert home.load(two) == 0
    assert home.videos("two") == shared | {B}, "a video keeps its id"


def bomb() -> bytes:
    """Some kilobytes that decompress to more than the largest evidence."""
    packer = zlib.compressobj(1)
    block = b" " * (1 << 24)
    return b"".join(packer.compress(block) for _ in range(MAX_JSON_BYTES // len(block) + 1)) + packer.flush()


@pytest.mark.parametrize(
    ("video_id", "evidence"),
    [
        ("../../../escaped", lambda: serialization.pack(PLANT)),
        ("A" * 24, lambda: serialization.pack(PLANT)),
        (A, bomb),
        (A, lambda: serialization.pack(PLANT)[:-9]),
        (
            A,
            lambda: serialization.pack(
                replace(SALES, clips=(replace(SALES.clips[0], keyframe="../../secret.jpg"),))
            ),
        ),
    ],
    ids=["path", "case", "bomb", "cut off", "keyframe"],
)
def test_a_hostile_lake_is_refused(
    home: Home, tmp_path: Path, video_id: str, evidence: Callable[[], bytes]
) -> None:
    with pytest.raises(LakeError):
        home.load(write(tmp_path / "lake", [video_id], evidence()))
    assert not home.store.rows("videos")
    assert not (home.config.home / "videos").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"home", "lake"}
