"""The demo: a column of video URLs becomes tables, and the tables are searched in SQL.

    tl-data demo                      with generated videos
    tl-data demo FOLDER-OR-GLOB       with your own videos

The demo always uses the embedded engine and costs nothing: its settings are not read from the environment, so
that a key there has no effect.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import time
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from rich.console import Console

from tl_data import pipeline, register
from tl_data.client.local_server import MODELS_PATH
from tl_data.connection import Connection, connect
from tl_data.demo.console import Screen
from tl_data.demo.file_server import FileServer
from tl_data.demo.videos import DemoVideo, Question, demo_videos
from tl_data.errors import SettingsError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import TABLES, VIDEOS
from tl_data.media.listing import ENDINGS
from tl_data.pipeline.job import OUTPUTS, Job, Source
from tl_data.pipeline.progress import show_progress
from tl_data.settings import Settings

if TYPE_CHECKING:
    import duckdb

SEARCH = """\
SELECT v.url, c.start_sec, c.end_sec, c.confidence
FROM tl_search('{index}', '{query}', max_hits := 3) c
JOIN videos v ON v.video_id = c.video_id
ORDER BY c.rank"""

RECOGNISED = """\
SELECT v.source_key,
       tl_analyze(v.video_id, 'What things are visible in the video?') AS things,
       tl_analyze(v.video_id, 'Transcribe the speech') AS words,
       tl_analyze(v.video_id, 'What text is on the screen?') AS screen
FROM videos v WHERE v.video_id IS NOT NULL ORDER BY v.source_key LIMIT {most}"""

#: General questions for videos without labels: the text, and the evidence that answers it.
GENERAL: tuple[tuple[str, Literal["spoken", "shown", "visible"]], ...] = (
    ("an animal", "visible"), ("a vehicle", "visible"), ("people", "visible"),
    ("one person alone", "visible"),
    ("a container for drinks", "visible"), ("furniture", "visible"), ("a building", "visible"),
    ("food", "visible"), ("somebody speaks", "spoken"), ("music", "spoken"), ("words on the screen", "shown"),
)  # fmt: skip
_MIN_SCORE = 46.0  # lowest score with the confidence `medium`: MEDIUM in local/search/query.py
_MAX_RECOGNISED = 12  # maximum number of videos whose recognised content is printed

JOIN = """\
SELECT q.question, v.url, c.start_sec, c.end_sec, h.title AS chapter
FROM questions q
CROSS JOIN LATERAL tl_search('{index}', q.question, max_hits := 1) c
JOIN videos v ON v.video_id = c.video_id
LEFT JOIN chapters h ON h.video_id = c.video_id AND c.start_sec >= h.start_sec AND c.start_sec < h.end_sec
ORDER BY q.number"""


def run_demo(
    videos: Sequence[str] = (), folder: Path = Path("demo-lake"), console: Console | None = None
) -> int:
    """Run the demo.

    Args:
        videos: your own folders, globs or files; if empty, videos are generated.
        folder: the folder of the tables, the generated videos and the data of the embedded engine.
        console: where to print; None: the terminal.

    Returns:
        The exit code: 0 on success, 1 if a video failed, 3 if the run stopped early (run it again), 130 if it
        was interrupted.

    Raises:
        SettingsError: an entry of `videos` has no video file, or the folder or port cannot be used.
    """
    screen = Screen(console or Console())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--folder {folder} cannot be used: {error.strerror}") from error
    sources = demo_sources(*videos) if videos else _generate(folder / "media", screen)
    # The user's videos have an index and tables separate from those of the generated videos.
    index, lake = ("demo_own", folder / "own") if videos else ("demo", folder)
    names = _names(sources)
    # The constructor, unlike `Settings.load`, reads neither the environment nor a file.
    settings = Settings(home=str(folder.resolve() / "engine"), index=index)
    with _server({name: video.path for name, video in names.items()}, folder) as server:
        connection = connect(settings)
        try:
            job = _job(lake, settings, {name: server.url(name) for name in names}, names)
            screen.step(f"{len(names)} videos as URLs, such as {server.url(next(iter(names)))}")
            with show_progress() as progress:
                report = pipeline.run(job, connection=connection, progress=progress)
            if report.status != "interrupted":
                _show(screen, connection, job, [q for video in sources for q in video.questions])
            screen.end(report)
            if report.status != "interrupted":
                screen.step(f"View the tables, play the videos: tl-data view {os.path.relpath(lake)}")
            return report.exit_code
        finally:
            connection.close(stop_engine=True)


def demo_sources(*places: str) -> list[DemoVideo]:
    """The video files of folders (including subfolders), globs and file paths.

    Raises:
        SettingsError: a place has no video file.
    """
    all_files: dict[Path, None] = {}
    for place in places:
        path = Path(place).expanduser()
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.suffix.lower() in ENDINGS]
        else:
            files = [Path(name) for name in glob.glob(str(path), recursive=True)]
        files = sorted(file.resolve() for file in files if file.is_file())
        if not files:
            raise SettingsError(f"{place}: no video file there ({', '.join(ENDINGS)})")
        all_files |= dict.fromkeys(files)
    return [DemoVideo(file, file.stem, ()) for file in all_files]


def _generate(folder: Path, screen: Screen) -> list[DemoVideo]:
    """Generate the missing videos of the demo."""
    existing = set(folder.glob("*.mp4"))
    started = time.monotonic()
    with screen.working("Making videos with speech, text and movement"):
        videos = demo_videos(folder)
    if count := sum(video.path not in existing for video in videos):
        screen.step(f"{count} videos made in {time.monotonic() - started:.0f} s: {os.path.relpath(folder)}")
    return videos


def _names(videos: list[DemoVideo]) -> dict[str, DemoVideo]:
    """Path below the common folder of all videos -> video."""
    common = os.path.commonpath([video.path.resolve().parent for video in videos])
    return {Path(os.path.relpath(video.path.resolve(), common)).as_posix(): video for video in videos}


def _server(files: Mapping[str, Path], folder: Path) -> FileServer:
    """A server with a port that depends on the folder, so that the URLs are the same in each run.

    A run recognizes videos of earlier runs by their URLs.

    Raises:
        SettingsError: the port is in use.
    """
    port = 20_000 + zlib.crc32(str(folder.resolve()).encode()) % 10_000  # below the ephemeral ports
    try:
        return FileServer(files, port)
    except OSError as error:
        raise SettingsError(
            f"port {port}, which serves the videos of {folder}, cannot be used ({error.strerror}). End "
            "the demo that runs in this folder, or choose another folder with --folder"
        ) from error


def _job(lake: Path, settings: Settings, urls: Mapping[str, str], videos: Mapping[str, DemoVideo]) -> Job:
    """The job of the demo. Its source is a CSV file with a column of URLs."""
    lake.mkdir(parents=True, exist_ok=True)
    with (lake / "videos.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "title", "url"])
        rows.writerows([name, videos[name].title, url] for name, url in urls.items())
    source = Source("files", str((lake / "videos.csv").resolve()), url="url", key="name")
    job_settings = {"home": settings.home, "index": settings.index}
    return Job(
        source, str(lake.resolve()), name="demo", settings=job_settings, commit_videos=2, tables=OUTPUTS
    )


def _show(screen: Screen, connection: Connection, job: Job, labelled: list[Question]) -> None:
    """Print the tables, three searches, and a join of tables and functions.

    Without labelled questions, print also the recognised content, search for general questions, and ask the
    user for more.
    """
    import duckdb

    lake = Lake(job.folder, job.format)
    tables = {name: lake.read(declared) for name, declared in TABLES.items() if lake.exists(declared)}
    screen.tables(os.path.relpath(job.folder), {name: table.num_rows for name, table in tables.items()})
    if not tables.get("videos", VIDEOS.schema.empty_table()).num_rows:
        return
    with duckdb.connect() as con:
        register(con, connection.settings)
        for name, table in tables.items():
            con.register(name, table)
        index = connection.settings.index
        screen.models(_stage_models(connection))
        if not labelled:
            screen.recognised(con.sql(RECOGNISED.format(most=_MAX_RECOGNISED)).fetchall())
        questions = labelled or _questions(con, index)
        for question in _of_each_kind(questions, 1):
            sql = SEARCH.format(index=index, query=question.text.replace("'", "''"))
            screen.search(question, sql, con.sql(sql).fetchall())
        joined = _of_each_kind(questions, 3)
        con.execute("CREATE TABLE questions (number INTEGER, question VARCHAR)")
        con.executemany("INSERT INTO questions VALUES (?, ?)", [[n, q.text] for n, q in enumerate(joined)])
        sql = JOIN.format(index=index)
        screen.join(sql, con.sql(sql).fetchall(), {q.text: q for q in joined} if labelled else {})
        while not labelled and (text := screen.question()):
            sql = SEARCH.format(index=index, query=text.replace("'", "''"))
            screen.search(Question(text, "visible", "", 0, 0), sql, con.sql(sql).fetchall())


def _stage_models(connection: Connection) -> list[dict[str, Any]]:
    """The model of each stage (vision, speech and others) of the engine's analysis, as the engine reports it.

    Each has at least `stage`, `model` and `tier`. The tier is the configured variant of the stage, such as
    `off`; then `model` is the reason.
    """
    parts = urlsplit(connection.base_url)
    key = (Path(connection.settings.home) / "engine" / "engine.key").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(
        f"{parts.scheme}://{parts.netloc}{MODELS_PATH}", headers={"x-api-key": key}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return list(json.loads(answer.read())["stages"])


def _of_each_kind(questions: list[Question], count: int) -> list[Question]:
    """Select `count` questions of each kind, from different videos if possible.

    If a kind has too few questions, other kinds fill up to three times `count`.
    """
    by_kind: dict[str, list[Question]] = {}
    for question in questions:
        by_kind.setdefault(question.kind, []).append(question)
    selected = []
    for same_kind in by_kind.values():
        per_video: dict[str, int] = {}
        numbered = []  # (number of the question within its video, question)
        for question in same_kind:
            per_video[question.video] = per_video.get(question.video, 0) + 1
            numbered.append((per_video[question.video], question))
        selected += [question for _, question in sorted(numbered, key=lambda pair: pair[0])[:count]]
    return (selected + [question for question in questions if question not in selected])[: 3 * count]


def _questions(con: duckdb.DuckDBPyConnection, index: str) -> list[Question]:
    """The general questions with good hits, best first; the best three if there are none."""
    scored = []
    for text, kind in GENERAL:
        rows: list[tuple[Any, ...]] = con.sql(
            f"SELECT video_id, start_sec, end_sec, score FROM tl_search('{index}', '{text}', max_hits := 1)"
        ).fetchall()
        video, start, end, score = rows[0] if rows else ("", 0.0, 0.0, 0.0)
        scored.append((score or 0.0, Question(text, kind, video, start, end)))
    scored.sort(key=lambda item: -item[0])
    answered = [question for score, question in scored if score >= _MIN_SCORE]
    return answered or [question for _, question in scored[:3]]
