"""What will be refused, known from headers alone: local files and remote ones, read in parts."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import media
from tests.support.scripted import Server, say
from tl_data.errors import MediaRefused
from tl_data.media.preflight import (
    FIRST_BLOCK,
    LIMITS,
    MediaFacts,
    facts_of,
    limits_of,
    refusal,
)

Run = Callable[..., Any]
GOOD = MediaFacts(10_000_000, 60.0, 1280, 720, 30.0, "h264", True)


def but(**changes: Any) -> MediaFacts:
    return MediaFacts(**(vars(GOOD) | changes))


@pytest.mark.parametrize(
    ("facts", "models", "code"),
    [
        (GOOD, ["marengo2.7", "pegasus1.2"], None),
        (but(width=720, height=1280), ["marengo2.7"], None),
        (but(width=2160, height=3840), ["marengo2.7"], None),
        (but(width=5184, height=2160), ["marengo3.0"], None),
        (but(width=5184, height=2160), ["marengo2.7"], "video_resolution_too_high"),
        (but(width=4000, height=2200), ["marengo3.0"], "video_resolution_too_high"),
        (but(width=640, height=359), ["marengo3.0"], "video_resolution_too_low"),
        (but(width=360, height=360), ["marengo3.0"], None),
        (but(width=864, height=360), ["marengo3.0"], None),
        (but(width=900, height=360), ["marengo3.0"], "video_resolution_invalid_aspect_ratio"),
        (but(width=360, height=900), ["marengo3.0"], "video_resolution_invalid_aspect_ratio"),
        (but(duration_sec=3.97), ["marengo3.0"], None),
        (but(duration_sec=3.9), ["marengo3.0"], "video_duration_too_short"),
        (but(duration_sec=3601), ["marengo3.0"], None),
        (but(duration_sec=3601), ["marengo3.0", "pegasus1.2"], "video_duration_too_long"),
        (but(duration_sec=7201), ["marengo2.7"], "video_duration_too_long"),
        (but(duration_sec=14401), ["marengo3.0"], "video_duration_too_long"),
        (but(size_bytes=3 << 30), ["marengo3.0"], None),
        (but(size_bytes=3 << 30), ["marengo2.7"], "video_filesize_too_large"),
        (but(duration_sec=0.6, width=64, height=900), ["tl-local-2 as marengo3.0"], None),
        (but(duration_sec=0.3), ["tl-local-2"], "video_duration_too_short"),
        (MediaFacts(None, None, None, None, None, None, None), ["marengo2.7"], None),
    ],
)
def test_limits_are_those_of_the_strictest_model(
    facts: MediaFacts, models: list[str], code: str | None
) -> None:
    limits = limits_of(*models)
    assert limits is not None
    refused = refusal(facts, limits)
    assert (refused.code if refused else None) == code


def test_a_refusal_names_the_limit_and_the_value() -> None:
    assert str(refusal(but(duration_sec=2.5), LIMITS["marengo3.0"])) == (
        "Video is too short. Please use video with duration between 4 seconds and 4 hours(14400 seconds). "
        "Current duration is 2.50 seconds (video_duration_too_short)"
    )
    assert str(refusal(but(size_bytes=5 << 30), LIMITS["marengo3.0"])) == (
        "The video is too large. Please use a video with a size less than 4 GB. The current size is 5 GB "
        "(video_filesize_too_large)"
    )
    assert limits_of("a model of tomorrow") is None


@pytest.mark.parametrize("make", [media.plain, media.index_at_end, media.rotated, media.late_start])
def test_local_files_say_what_they_are(run: Run, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    facts = run(lambda c: facts_of(c, path))
    assert facts.size_bytes == path.stat().st_size
    assert facts.duration_sec == pytest.approx(5.0, abs=0.1)
    assert (facts.width, facts.height) == ((640, 360) if make is media.rotated else (480, 360))
    assert facts.fps == pytest.approx(10, abs=0.1)
    assert facts.has_audio is (make is not media.late_start)


def test_a_short_file_is_refused_by_its_header(run: Run, tmp_path: Path) -> None:
    refused = refusal(run(lambda c: facts_of(c, media.one_second(tmp_path))), LIMITS["marengo3.0"])
    assert refused is not None
    assert refused.code == "video_duration_too_short"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (media.text_named_mp4, "video_file_broken"),
        (media.zero_bytes, "video_file_broken"),
        (media.truncated, "video_file_broken"),
        (media.html_page, "video_file_broken"),
        (media.audio_only, "video_file_broken"),
    ],
)
def test_bad_files_are_refused(run: Run, tmp_path: Path, make: Callable[[Path], Path], code: str) -> None:
    with pytest.raises(MediaRefused) as caught:
        run(lambda c: facts_of(c, make(tmp_path)))
    assert caught.value.code == code
    with pytest.raises(MediaRefused, match=r"cannot read .*: No such file"):
        run(lambda c: facts_of(c, tmp_path / "nowhere.mp4"))


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A file server that knows ranges, and counts what it sends."""

    sent: list[int]

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        size = path.stat().st_size
        asked = self.headers["range"].removeprefix("bytes=").split("-")
        start, end = int(asked[0]), min(int(asked[1]), size - 1)
        with path.open("rb") as file:
            file.seek(start)
            block = file.read(end - start + 1)
        self.sent.append(len(block))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Content-Length", str(len(block)))
        self.end_headers()
        self.wfile.write(block)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def ranges(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    sent: list[int] = []
    handler = functools.partial(type("Counting", (Ranges,), {"sent": sent}), directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    thread.join()
    server.server_close()


def padded(path: Path, mb: int) -> Path:
    """The same MP4 with so many megabytes of nothing between its media and its index at the end."""
    data = path.read_bytes()
    at = data.rindex(b"moov") - 4
    free = (mb << 20).to_bytes(4, "big") + b"free" + bytes((mb << 20) - 8)
    path.write_bytes(data[:at] + free + data[at:])
    return path


def test_a_remote_file_is_read_in_a_few_blocks(
    run: Run, tmp_path: Path, ranges: tuple[str, list[int]]
) -> None:
    origin, sent = ranges
    path = padded(media.index_at_end(tmp_path), 60)
    facts = run(lambda c: facts_of(c, f"{origin}/{path.name}"))
    assert facts == run(lambda c: facts_of(c, path))
    assert facts.duration_sec == pytest.approx(5.0, abs=0.1)
    assert sent[0] == FIRST_BLOCK
    assert sum(sent) < 2 << 20
    assert len(sent) < 12


def test_a_file_without_a_header_is_abandoned_with_few_requests(
    run: Run, tmp_path: Path, ranges: tuple[str, list[int]]
) -> None:
    origin, sent = ranges
    # A transport stream of stuffing: no picture to be found, however far one reads.
    (tmp_path / "noise.ts").write_bytes((b"G\x1f\xff\x10" + bytes(184)) * 220_000)
    facts = run(lambda c: facts_of(c, f"{origin}/noise.ts"))
    assert (facts.size_bytes, facts.duration_sec) == (220_000 * 188, None)
    assert sum(sent) <= 32 << 20


def test_a_server_that_only_sends_whole_files_leaves_us_with_the_size(
    server: Server, run: Run, tmp_path: Path
) -> None:
    server.tell("HEAD /v.mp4", say(200, content_type="video/mp4", content_length="123456"))
    facts = run(lambda c: facts_of(c, server.origin + "/v.mp4"))
    assert (facts.size_bytes, facts.duration_sec, facts.width) == (123456, None, None)
    server.tell("HEAD /v.mp4", say(200, content_type="video/mp4", content_length=str(5 << 30)))
    large = refusal(run(lambda c: facts_of(c, server.origin + "/v.mp4")), LIMITS["marengo3.0"])
    assert large is not None
    assert large.code == "video_filesize_too_large"
    assert not server.asked("GET /v.mp4")
    # one that says it knows ranges, and does not: the index at the end cannot be reached
    video = padded(media.index_at_end(tmp_path), 5).read_bytes()
    server.tell("HEAD /v.mp4", say(200, accept_ranges="bytes", content_length=str(len(video))))
    server.tell("GET /v.mp4", say(200, video, content_type="video/mp4"))
    facts = run(lambda c: facts_of(c, server.origin + "/v.mp4"))
    assert (facts.size_bytes, facts.duration_sec) == (len(video), None)


def test_a_remote_page_or_nothing_is_refused(server: Server, run: Run) -> None:
    server.tell("HEAD /v.mp4", say(404))
    server.tell("GET /v.mp4", say(404))
    with pytest.raises(MediaRefused, match="video not found at"):
        run(lambda c: facts_of(c, server.origin + "/v.mp4"))
    server.tell("HEAD /v.mp4", say(200, accept_ranges="bytes", content_length="20"))
    server.tell("GET /v.mp4", say(206, b"bread, butter, tomat", content_range="bytes 0-19/20"))
    with pytest.raises(MediaRefused, match=r"cannot read .*v.mp4 as a video"):
        run(lambda c: facts_of(c, server.origin + "/v.mp4"))
    server.tell("GET /v.mp4", say(500))
    with pytest.raises(Exception, match="HTTP 500"):
        run(lambda c: facts_of(c, server.origin + "/v.mp4"), retries=0)
