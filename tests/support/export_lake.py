"""Lakes written by hand for tests of exports: real tables, no engine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, CHAPTERS, CLIPS, SUMMARIES, VECTORS, VIDEOS

AT = datetime(2026, 11, 1, tzinfo=UTC)
MODEL = "tl-local-1"


def needs(library: str, extra: str) -> pytest.MarkDecorator:
    """Skip where a client library is not installed."""
    there = find_spec(library) is not None
    return pytest.mark.skipif(not there, reason=f'{library} is not installed: pip install "tl_data[{extra}]"')


def video(key: str, **more: Any) -> dict[str, Any]:
    """A row of `videos`: a minute at 25 fps."""
    url = more.pop("url", f"https://media.example/{key}")
    return {
        **{
            "source_key": key,
            "url": f"{url}?Signature=secret",
            "canonical_url": url,
            "content_key": f"c-{key}",
        },
        **{"video_id": f"v-{key}", "index_id": "i", "status": "ready", "duration_sec": 60.0, "fps": 25.0},
        **{"width": 640, "height": 360, "model": MODEL, "indexed_at": AT, **more},
    }


def write_videos(lake: Lake, videos: Sequence[dict[str, Any]]) -> None:
    """Put these videos in the place of all."""
    lake.table(VIDEOS).replace(rows_of(VIDEOS, videos))


def write_clips(lake: Lake, clips: Sequence[tuple[str, float, float, str | None]]) -> None:
    """Video's id, start, end and words of each clip, in the place of all clips."""
    rows = [
        {"video_id": v, "clip_number": n, "start_sec": a, "end_sec": b, "transcription": t, "model": MODEL}
        for n, (v, a, b, t) in enumerate(clips)
    ]
    lake.table(CLIPS).replace(rows_of(CLIPS, rows))


def write_chapters(lake: Lake, chapters: Sequence[tuple[str, float, float, str | None, str | None]]) -> None:
    """Video's id, start, end, title and summary of each chapter, in the place of all chapters."""
    rows = [
        {
            **{"video_id": v, "chapter_number": n, "start_sec": a, "end_sec": b},
            **{"title": t, "summary": s, "model": MODEL},
        }
        for n, (v, a, b, t, s) in enumerate(chapters)
    ]
    lake.table(CHAPTERS).replace(rows_of(CHAPTERS, rows))


def vector(seed: int, dimension: int = 8) -> list[float]:
    """Numbers that look like those of a model."""
    draw = random.Random(seed)
    return [draw.gauss(0, 1) for _ in range(dimension)]


def write_vectors(lake: Lake, rows: Sequence[tuple[str, float, float, list[float] | None]]) -> None:
    """Video's id, start, end and vector of each clip, in the place of all vectors."""
    made = [
        {
            **{"video_id": v, "start_sec": a, "end_sec": b, "embedding_scope": "clip"},
            **{"embedding_option": "visual", "model": MODEL, "dimension": len(x or ()), "vector": x},
        }
        for v, a, b, x in rows
    ]
    lake.table(VECTORS).replace(rows_of(VECTORS, made))


def small_lake(folder: Path) -> Lake:
    """Three videos with clips, chapters, summaries, an alert and ten vectors."""
    lake = Lake(str(folder), "parquet")
    names = ("news.mp4", 'it\'s "odd" 😀.mp4', "talk.mp4")
    write_videos(lake, [video(name) for name in names])
    ids = [f"v-{name}" for name in names]
    write_clips(lake, [(i, n * 10.0, n * 10.0 + 10, f"words {n} of {i}") for i in ids for n in range(3)])
    chapters = [(i, n * 20.0, n * 20.0 + 20, f"Part {n} <b>", "What happens") for i in ids for n in range(3)]
    write_chapters(lake, chapters)
    said = [{"video_id": i, "prompt": "", "summary": "S", "title": f"Title of {i}", "at": AT} for i in ids]
    lake.table(SUMMARIES).replace(rows_of(SUMMARIES, said))
    alert = {
        **{"question": "a dog", "content_key": "c", "video_id": ids[0], "source_key": names[0]},
        **{"start_sec": 12.0, "end_sec": 14.5, "rank": 1, "at": AT},
    }
    lake.table(ALERTS).replace(rows_of(ALERTS, [alert]))
    stretches = [(i, n * 10.0, n * 10.0 + 10) for i in ids for n in range(3)]
    write_vectors(lake, [(v, a, b, vector(n)) for n, (v, a, b) in enumerate(stretches)])
    return lake
