"""Lakes written by the package's own writer, videos made by PyAV, and viewers that serve them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import uvicorn

from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import (
    ALERTS,
    ANNOTATIONS,
    CHAPTERS,
    CLIPS,
    ERRORS,
    HIGHLIGHTS,
    RUNS,
    SUMMARIES,
    VECTORS,
    VIDEOS,
    LakeSchema,
)
from tl_data.view.app import Viewer, app
from tl_data.view.snapshot import LakeFolder

TOKEN = "the-token"
START = datetime(2026, 11, 1, tzinfo=UTC)
SECONDS = 20.0
EVIL = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'


def make_video(path: Path, seconds: float = SECONDS) -> None:
    """A grey video that becomes brighter with time: 10 frames a second, VP8 in WebM, a keyframe a second."""
    with av.open(str(path), "w") as target:
        stream: Any = target.add_stream("libvpx", rate=10, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 160, 90, "yuv420p", 10
        for n in range(int(seconds * 10)):
            picture = np.full((90, 160, 3), 20 + n, np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode())


def make_sound(path: Path, seconds: int = 5) -> None:
    """A quiet noise: Opus in WebM, without pictures."""
    with av.open(str(path), "w") as target:
        stream: Any = target.add_stream("libopus", rate=48000, layout="mono")
        noise = np.random.default_rng(0).integers(-500, 500, (1, seconds * 48000), np.int16)
        frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
        frame.sample_rate = 48000
        target.mux(stream.encode(frame))
        target.mux(stream.encode())


def make_lake(folder: Path | str, source: Callable[[int], str], videos: int, kind: Any = "delta") -> Lake:
    """A lake of so many videos with four clips each; every tenth has speech about a harbour.

    Args:
        source: URL or path of the video of a number.
    """
    lake = Lake(str(folder), kind)
    ids = [f"{n:024x}" for n in range(videos)]
    vectors = np.random.default_rng(7).normal(size=(videos, 2, 8)).astype(np.float32)

    def write(declared: LakeSchema, rows: list[dict[str, Any]]) -> None:
        lake.table(declared).append(rows_of(declared, rows))

    def times(at: int, length: float) -> dict[str, float]:
        return {"start_sec": at * length, "end_sec": (at + 1) * length}

    def spoken(n: int, clip: int) -> str | None:
        return f"clip {clip}: the harbour number {n} is open" if n % 10 == 0 else None

    facts = {"status": "ready", "duration_sec": SECONDS, "width": 160, "height": 90, "model": "m"}
    sources = [{"source_key": f"key-{n}", "url": source(n), "content_key": f"c{n}"} for n in range(videos)]
    write(
        VIDEOS,
        [
            {**sources[n], **facts, "video_id": ids[n], "indexed_at": START + timedelta(minutes=n)}
            for n in range(videos)
        ],
    )
    write(
        CLIPS,
        [
            {"video_id": ids[n], "clip_number": c, **times(c, 5.0), "transcription": spoken(n, c)}
            for n in range(videos)
            for c in range(4)
        ],
    )
    topics = ["harbour", "weather", "training"]
    gists = [
        {"summary": f"Summary {n}.", "title": f"Video {n:04d}", "topics": [topics[n % 3]]}
        for n in range(videos)
    ]
    gists[0] = {"summary": EVIL, "title": EVIL, "topics": [EVIL]}
    write(
        SUMMARIES, [{"video_id": ids[n], "prompt": "", **gists[n], "made_at": START} for n in range(videos)]
    )
    write(
        CHAPTERS,
        [
            {"video_id": ids[n], "chapter_number": c, **times(c, 10.0), "title": f"Chapter {c}"}
            | {"summary": EVIL if n == 0 else "What happens."}
            for n in range(min(videos, 50))
            for c in range(2)
        ],
    )
    shown = {"start_sec": 0.0, "end_sec": 5.0}
    write(
        HIGHLIGHTS,
        [
            {**shown, "video_id": n, "highlight_number": 0, "highlight": f"The best of {n}", "content_key": n}
            for n in ids[:50]
        ],
    )
    write(
        ANNOTATIONS,
        [
            {**shown, "video_id": n, "annotation_number": at, "kind": kind, "label": label, "content_key": n}
            for n in ids[:50]
            for at, (kind, label) in enumerate([("text", f"Sign {n}"), ("text", EVIL), ("object", "a crane")])
        ],
    )
    kind_of = {"embedding_scope": "clip", "embedding_option": "visual", "model": "m", "dimension": 8}
    write(
        VECTORS,
        [
            {"video_id": ids[n], **times(c, 10.0), **kind_of, "vector": vectors[n, c]}
            for n in range(videos)
            for c in range(2)
        ],
    )
    refused = {"class": "MediaRefused", "code": "video_duration_too_short", "retryable": False}
    failed = {"class": "ServerFailed", "code": "server_error", "retryable": True}
    signed = "https://example.com/a.mp4?token=hidden"
    write(
        ERRORS,
        [
            {
                "source_key": "bad-1",
                "url": signed,
                "message": "the video has 0.5 s",
                "failed_at": START,
                **refused,
            },
            {
                "source_key": "bad-2",
                "url": "https://example.com/b.mp4",
                "message": "500",
                "at": START,
                **failed,
            },
        ],
    )
    spent = {
        "video_minutes": 3.5,
        "calls": 30,
        "price": Decimal("0.25"),
        "input_tokens": 900,
        "output_tokens": 100,
    }
    write(
        RUNS,
        [
            {"run_id": f"r{n}", "job": "night", "status": "done", "rows": 10, "failed": n, **spent}
            | {"currency": "USD", "started_at": START + timedelta(days=n)}
            | {"ended_at": START + timedelta(days=n, minutes=9)}
            for n in range(3)
        ],
    )
    alert = {
        "question": EVIL,
        "confidence": "high",
        "rank": 1,
        "transcription": "the harbour",
        "found_at": START,
    }
    write(ALERTS, [{**alert, **sources[0], "video_id": ids[0], "start_sec": 5.0, "end_sec": 10.0}])
    return lake


@dataclass(frozen=True)
class Served:
    """A viewer that answers."""

    url: str  # with the token, ends in a slash
    viewer: Viewer
    folder: Path


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Viewer], Served]]:
    """Serve viewers on ports of this machine until the module's tests are done."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(viewer: Viewer) -> Served:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app(viewer, TOKEN, port), log_level="warning", access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return Served(f"http://127.0.0.1:{port}/{TOKEN}/", viewer, Path(viewer.lake.folder))

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video of 20 seconds."""
    path = tmp_path_factory.mktemp("video") / "harbour.webm"
    make_video(path)
    return path


@pytest.fixture(scope="module")
def thousand(
    video: Path, tmp_path_factory: pytest.TempPathFactory, serve: Callable[[Viewer], Served]
) -> Served:
    """A viewer of a lake of 1,000 videos, all of which are one file of this machine."""
    folder = tmp_path_factory.mktemp("lake")
    make_lake(folder, lambda n: str(video), 1000)
    return serve(Viewer(LakeFolder(str(folder)), "thousand"))
