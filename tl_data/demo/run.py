"""The demo: a column of video URLs becomes tables, and the tables are searched in SQL.

    tl-data demo                      with videos that are made on the spot
    tl-data demo FOLDER-OR-GLOB       with your own

It always uses the embedded engine: a key that happens to be set is not spent on a demonstration.
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
from tl_data.connection import Connection, connect
from tl_data.demo.console import Screen
from tl_data.demo.file_server import FileServer
from tl_data.demo.videos import DemoVideo, Question, demo_videos
from tl_data.errors import SettingsError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import TABLES, VIDEOS
from tl_data.media.listing import ENDINGS
from tl_data.pipeline.job import OUTPUTS, Job, Source
from tl_data.pipeline.progress import shown
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

#: Questions for unlabelled videos, each of another kind of evidence.
GENERAL: tuple[tuple[str, Literal["spoken", "shown", "visible"]], ...] = (
    ("an animal", "visible"), ("a vehicle", "visible"), ("people", "visible"),
    ("one person alone", "visible"),
    ("a container for drinks", "visible"), ("furniture", "visible"), ("a building", "visible"),
    ("food", "visible"), ("somebody speaks", "spoken"), ("music", "spoken"), ("words on the screen", "shown"),
)  # fmt: skip
_FOUND = 46.0  # score of a hit at `medium`
_SHOWN_VIDEOS = 12  # most videos whose recognised content is printed

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
    """Run the demo; gives the exit code: 0 all is well, 1 a video failed, 130 interrupted.

    Args:
        videos: folders, globs or files of your own; without any, videos are made.
        folder: where the tables, the made videos and the embedded engine's data go.
        console: where to print; None is the terminal.

    Raises:
        SettingsError: one of `videos` is no video file, or has none; the folder cannot be used; the port is
            taken.
    """
    screen = Screen(console or Console())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"--folder {folder} cannot be used: {error.strerror}") from error
    found = demo_sources(*videos) if videos else _made(folder / "media", screen)
    # Your own videos get an index and tables of their own, beside those of the made ones.
    index, lake = ("demo_own", folder / "own") if videos else ("demo", folder)
    names = _names(found)
    settings = Settings(home=str(folder.resolve() / "engine"), index=index)
    with _server({name: video.path for name, video in names.items()}, folder) as server:
        connection = connect(settings)
        try:
            job = _job(lake, settings, {name: server.url(name) for name in names}, names)
            screen.step(f"{len(names)} videos as URLs, such as {server.url(next(iter(names)))}")
            with shown() as progress:
                report = pipeline.run(job, connection=connection, progress=progress)
            if report.status != "interrupted":
                _show(screen, connection, job, [q for video in found for q in video.questions])
            screen.end(report)
            if report.status != "interrupted":
                screen.step(f"See and play it: tl-data view {os.path.relpath(lake)}")
            return report.exit_code
        finally:
            connection.close(stop_engine=True)


def demo_sources(*places: str) -> list[DemoVideo]:
    """The video files of folders (with those below them), of globs, and files.

    Raises:
        SettingsError: one of the places has none.
    """
    found: dict[Path, None] = {}
    for place in places:
        path = Path(place).expanduser()
        if path.is_dir():
            files = [file for file in path.rglob("*") if file.suffix.lower() in ENDINGS]
        else:
            files = [Path(name) for name in glob.glob(str(path), recursive=True)]
        files = sorted(file.resolve() for file in files if file.is_file())
        if not files:
            raise SettingsError(f"{place}: no video file there ({', '.join(ENDINGS)})")
        found |= dict.fromkeys(files)
    return [DemoVideo(file, file.stem, ()) for file in found]


def _made(folder: Path, screen: Screen) -> list[DemoVideo]:
    before = set(folder.glob("*.mp4"))
    started = time.monotonic()
    with screen.working("Making videos with speech, text and movement"):
        videos = demo_videos(folder)
    if made := sum(video.path not in before for video in videos):
        screen.step(f"{made} videos made in {time.monotonic() - started:.0f} s: {os.path.relpath(folder)}")
    return videos


def _names(videos: list[DemoVideo]) -> dict[str, DemoVideo]:
    """Each video under its path below the folder that holds them all."""
    top = os.path.commonpath([video.path.resolve().parent for video in videos])
    return {Path(os.path.relpath(video.path.resolve(), top)).as_posix(): video for video in videos}


def _server(files: Mapping[str, Path], folder: Path) -> FileServer:
    """A server at the folder's own port: the URLs stay the same from run to run, and so does what is known.

    Raises:
        SettingsError: the port is in use.
    """
    port = 20_000 + zlib.crc32(str(folder.resolve()).encode()) % 10_000  # below those given out freely
    try:
        return FileServer(files, port)
    except OSError as error:
        raise SettingsError(
            f"port {port}, where the videos of {folder} are served, cannot be had ({error.strerror}). Does "
            "another demo run in this folder? End it, or choose another folder with --folder"
        ) from error


def _job(lake: Path, settings: Settings, urls: Mapping[str, str], videos: Mapping[str, DemoVideo]) -> Job:
    """The job over a CSV file with a column of URLs, as anybody would have it."""
    lake.mkdir(parents=True, exist_ok=True)
    with (lake / "videos.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "title", "url"])
        rows.writerows([name, videos[name].title, url] for name, url in urls.items())
    source = Source("files", str((lake / "videos.csv").resolve()), url="url", key="name")
    chosen = {"home": settings.home, "index": settings.index}
    return Job(source, str(lake.resolve()), name="demo", settings=chosen, commit_videos=2, tables=OUTPUTS)


def _show(screen: Screen, connection: Connection, job: Job, asked: list[Question]) -> None:
    """The tables, three searches, and a join of tables and functions."""
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
        screen.models(_stages(connection))
        if not asked:
            screen.recognised(con.sql(RECOGNISED.format(most=_SHOWN_VIDEOS)).fetchall())
        questions = asked or _questions(con, index)
        for question in _of_each_kind(questions, 1):
            sql = SEARCH.format(index=index, query=question.text.replace("'", "''"))
            screen.search(question, sql, con.sql(sql).fetchall())
        joined = _of_each_kind(questions, 3)
        con.execute("CREATE TABLE questions (number INTEGER, question VARCHAR)")
        con.executemany("INSERT INTO questions VALUES (?, ?)", [[n, q.text] for n, q in enumerate(joined)])
        sql = JOIN.format(index=index)
        screen.join(sql, con.sql(sql).fetchall(), {q.text: q for q in joined} if asked else {})
        while not asked and (text := screen.question()):
            sql = SEARCH.format(index=index, query=text.replace("'", "''"))
            screen.search(Question(text, "visible", "", 0, 0), sql, con.sql(sql).fetchall())


def _stages(connection: Connection) -> list[dict[str, Any]]:
    """Which model does the work of which stage, as the engine says it."""
    parts = urlsplit(connection.base_url)
    key = (Path(connection.settings.home) / "engine" / "engine.key").read_text(encoding="utf-8").strip()
    request = urllib.request.Request(
        f"{parts.scheme}://{parts.netloc}/_engine/tiers", headers={"x-api-key": key}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return list(json.loads(answer.read())["stages"])


def _of_each_kind(questions: list[Question], count: int) -> list[Question]:
    """So many questions of each kind, from videos as different as can be; three times as many in any case."""
    by_kind: dict[str, list[Question]] = {}
    for question in questions:
        by_kind.setdefault(question.kind, []).append(question)
    chosen = []
    for same in by_kind.values():
        seen: dict[str, int] = {}
        rounds = []
        for question in same:
            seen[question.video] = seen.get(question.video, 0) + 1
            rounds.append((seen[question.video], question))
        chosen += [question for _, question in sorted(rounds, key=lambda r: r[0])[:count]]
    return (chosen + [question for question in questions if question not in chosen])[: 3 * count]


def _questions(con: duckdb.DuckDBPyConnection, index: str) -> list[Question]:
    """General questions for unlabelled videos, those with hits first."""
    scored = []
    for text, kind in GENERAL:
        rows: list[tuple[Any, ...]] = con.sql(
            f"SELECT video_id, start_sec, end_sec, score FROM tl_search('{index}', '{text}', max_hits := 1)"
        ).fetchall()
        video, start, end, score = rows[0] if rows else ("", 0.0, 0.0, 0.0)
        scored.append((score or 0.0, Question(text, kind, video, start, end)))
    scored.sort(key=lambda item: -item[0])
    found = [question for score, question in scored if score >= _FOUND]
    return found or [question for _, question in scored[:3]]
