"""The library on disk: idempotent, atomic, safe from many threads, the same after a restart or a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.known import PLANT, SALES, SHAPES, SILENT, VIDEOS
from tl_data.local.search.query import Query
from tl_data.local.storage.library import Library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library(tmp_path / "knowledge" / "library.db")
    for video_id, evidence in VIDEOS.items():
        made.add("index", video_id, evidence, f"/media/{video_id}")
    yield made
    made.close()


def found(library: Library, text: str, index: str = "index") -> list[tuple[str, float, float]]:
    return [(hit.video_id, hit.start_sec, hit.end_sec) for hit in library.search(Query(index, text))]


def test_evidence_is_stored_unchanged(library: Library) -> None:
    assert library.videos("index") == list(VIDEOS)
    assert library.evidence("sales") == SALES
    assert library.folder("plant") == "/media/plant"
    with pytest.raises(KeyError):
        library.evidence("nobody")
    with pytest.raises(KeyError):
        library.folder("nobody")


def test_adding_twice_is_adding_once(library: Library) -> None:
    before = found(library, "revenue")
    library.add("index", "sales", SALES)
    assert found(library, "revenue") == before
    assert sorted(library.videos("index")) == sorted(VIDEOS)


def test_adding_again_replaces_and_can_move_to_another_index(library: Library) -> None:
    assert found(library, "revenue")
    library.add("index", "sales", PLANT)
    assert found(library, "revenue") == []
    library.add("other", "sales", SALES)
    assert found(library, "revenue", "other")
    assert "sales" not in library.videos("index")


def test_removed_videos_are_not_found(library: Library) -> None:
    assert found(library, "revenue")
    assert library.remove("sales")
    assert not library.remove("sales")
    assert found(library, "revenue") == []
    assert found(library, "helmet")
    with pytest.raises(KeyError):
        library.evidence("sales")


def test_indexes_are_apart(library: Library) -> None:
    library.add("second", "sales-2", SALES)
    assert {video for video, _, _ in found(library, "revenue", "second")} == {"sales-2"}
    library.remove_index("index")
    assert found(library, "revenue") == []
    assert found(library, "revenue", "second")
    assert found(library, "anything", "never made") == []


def test_reopened_it_answers_the_same(library: Library, tmp_path: Path) -> None:
    questions = [
        "revenue",
        "a red thing moving left",
        "helmets",
        "zoom in",
        "welcom to the reveiw",
        "nothing here",
    ]
    before = [library.search(Query("index", text)) for text in questions]
    again = Library(tmp_path / "knowledge" / "library.db")
    assert [again.search(Query("index", text)) for text in questions] == before
    again.close()


def test_two_libraries_on_one_file_do_not_lock_each_other_out(library: Library, tmp_path: Path) -> None:
    other = Library(tmp_path / "knowledge" / "library.db")
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(lib.add, "index", f"{n}-{i}", SHAPES)
            for i in range(5)
            for n, lib in (("a", library), ("b", other))
        ]
        for job in jobs:
            job.result()
    assert len(library.videos("index")) == len(VIDEOS) + 10
    other.close()


def test_a_hundred_threads_search_while_others_add_and_remove(library: Library) -> None:
    expected = found(library, "helmet inside the building")
    stop = threading.Event()
    failed: list[BaseException] = []

    def churn() -> None:
        number = 0
        while not stop.is_set():
            try:
                library.add("index", f"extra-{number % 3}", SILENT)
                library.remove(f"extra-{(number + 1) % 3}")
            except BaseException as error:
                failed.append(error)
                raise
            number += 1

    writer = threading.Thread(target=churn)
    writer.start()
    try:
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(lambda _: found(library, "helmet inside the building"), range(300)))
    finally:
        stop.set()
        writer.join()
    assert not failed
    assert all(answer == expected for answer in answers)


def test_killed_in_the_middle_a_video_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    code = textwrap.dedent(f"""
        from tests.support.known import SALES
        from tl_data.local.storage.library import Library
        library = Library({str(path)!r})
        n = 0
        while True:
            library.add("index", f"video-{{n}}", SALES)
            print(n, flush=True)
            n += 1
    """)
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        for _ in range(8):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    library = Library(path)
    videos = library.videos("index")
    assert len(videos) >= last + 1
    assert {hit.video_id for hit in library.search(Query("index", "revenue grew", limit=1000))} == set(videos)
    library.close()


def test_columns_in_another_format_are_rebuilt(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.db")
    library.add("index", "sales", SALES)
    before = found(library, "a mostly white picture")
    with library._writing, library._connection() as db:
        db.execute("UPDATE videos SET form = 'an older one', pack = x''")
    library.close()
    again = Library(tmp_path / "library.db")
    assert found(again, "a mostly white picture") == before != []
    again.close()


def test_a_closed_library_raises(tmp_path: Path) -> None:
    import sqlite3

    library = Library(tmp_path / "library.db")
    library.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        library.search(Query("index", "x"))


def test_a_complete_ranking_goes_on_after_the_answers_with_all_other_clips(library: Library) -> None:
    query = Query("index", "revenue grew by twelve percent", threshold="none")
    answers, ranking = library.search(query), library.search(query, all_clips=True)
    assert ranking[: len(answers)] == answers
    assert [hit.rank for hit in ranking] == list(range(1, len(ranking) + 1))
    for video_id, evidence in VIDEOS.items():
        for clip in evidence.clips:  # none is left out, none stands twice
            over = [hit for hit in ranking[len(answers) :] if hit.video_id == video_id]
            assert sum((hit.start_sec, hit.end_sec) == (clip.start_sec, clip.end_sec) for hit in over) <= 1
            assert any(hit.start_sec < clip.end_sec and hit.end_sec > clip.start_sec for hit in ranking)
    one = library.search(Query("index", "revenue", video_ids=frozenset({"plant"})), all_clips=True)
    assert {hit.video_id for hit in one} == {"plant"}


def test_sound_is_audio_without_speech(library: Library) -> None:
    said = "our revenue grew by twelve percent"
    assert library.search(Query("index", said, options=("audio",)))[0].video_id == "sales"
    assert library.search(Query("index", said, options=("sound",))) == []
    assert library.search(Query("index", "music", options=("sound",)))
