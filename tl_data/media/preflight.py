"""Checks of a video against the limits of the models, from its container header, before an upload.

    facts = await facts_of(client, "https://example.com/tour.mp4")
    refused = refusal(facts, limits_of("marengo3.0"))

The first line reads a few blocks of the file, the second returns the error that the API would return for it,
or None. Reading headers needs the extra `media`. A value that the header does not contain is not checked.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_data.errors import BadRequest, ConnectionFailed, MediaRefused, MissingExtra, TLDataError
from tl_data.media.identity import Remote, is_url, local_path
from tl_data.models import GB, HOUR, MB, TEXT_MODEL_2025, TEXT_MODELS
from tl_data.untrusted import CONTAINERS
from tl_data.urls import redacted

if TYPE_CHECKING:
    from tl_data.client import Client

FIRST_BLOCK = 128 << 10  # bytes; also the size of the first block after a seek
LARGEST_BLOCK = 2 << 20  # bytes
BLOCKS = 8  # maximum number of blocks in memory
MAX_BYTES = 32 << 20  # maximum bytes that are read of one file to find its header
BLOCK_TIMEOUT = 60.0  # seconds
#: Assumed bytes per second of a file of unknown length: 2 Mbit/s, the bit rate of usual videos.
BYTES_A_SECOND = 250_000


class HeaderUnavailable(BadRequest):
    """The header was not found in `MAX_BYTES`, or the server does not support range requests."""


class RangeFile(io.RawIOBase):
    """A seekable file object for a remote file. A thread reads it while the event loop sends the requests.

    Blocks are fetched on demand. The size of consecutive blocks grows, so that a long header takes few
    requests. The last `BLOCKS` blocks are kept in memory.
    """

    def __init__(self, client: Client, url: str, length: int, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._url = url
        self._length = length
        self._loop = loop
        self._at = 0
        self._blocks: dict[int, bytes] = {}  # start -> block, oldest first
        self._end = -1  # where the last fetched block ends; -1 before the first one
        self._block_size = FIRST_BLOCK
        self.fetched = 0  # bytes so far
        self.failure: TLDataError | None = None
        self._lock = threading.Lock()  # protects `_reading`
        self._reading: Future[bytes] | None = None  # the request that the reading thread waits for

    def close(self) -> None:
        """Close the file and cancel the current request. May be called from any thread."""
        with self._lock:
            super().close()
            if self._reading is not None:
                self._reading.cancel()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._length if size < 0 else min(self._length, self._at + size)
        if self._at >= end:
            return b""
        start, block = self._block()
        piece = block[self._at - start : end - start]  # empty if the file is shorter than reported
        self._at += len(piece)
        return piece

    def _block(self) -> tuple[int, bytes]:
        """The block at the current position, and its start."""
        for start, block in self._blocks.items():
            if start <= self._at < start + len(block):
                return start, block
        self._block_size = min(LARGEST_BLOCK, self._block_size * 2) if self._at == self._end else FIRST_BLOCK
        start, self._end = self._at, min(self._length, self._at + self._block_size)
        if self.fetched + self._end - start > MAX_BYTES:
            self.failure = HeaderUnavailable(
                f"no header found after reading {MAX_BYTES >> 20} MiB", "header_not_found"
            )
            raise self.failure
        block = self._fetch(start, self._end)
        self._blocks[start] = block
        while len(self._blocks) > BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        return start, block

    def _fetch(self, start: int, end: int) -> bytes:
        with self._lock:
            if self.closed:
                raise ValueError("the file is closed")
            reading = asyncio.run_coroutine_threadsafe(
                self._client.read_range(self._url, start, end), self._loop
            )
            self._reading = reading
        try:
            block = reading.result(BLOCK_TIMEOUT)
        except TLDataError as error:
            unavailable = isinstance(error, BadRequest) and error.code == "ranges_not_supported"
            self.failure = HeaderUnavailable(str(error), error.code) if unavailable else error
            raise self.failure from None
        except TimeoutError:
            reading.cancel()
            self.failure = ConnectionFailed(
                f"no block of {redacted(self._url)} arrived within {BLOCK_TIMEOUT:g} s"
            )
            raise self.failure from None
        self.fetched += len(block)
        return block


#: Tolerance in seconds: containers round, so a file of 4 s may have 3.99 in its header.
SLACK_SEC = 0.05
#: Tolerance of the aspect ratio: a picture of 2.4:1 may be slightly wider after rounding to even pixels.
SLACK_RATIO = 0.005


@dataclass(frozen=True)
class MediaFacts:
    """The facts in a video's header; None where the header has no value."""

    size_bytes: int | None
    duration_sec: float | None
    width: int | None
    height: int | None
    fps: float | None
    codec: str | None
    has_audio: bool | None


@dataclass(frozen=True)
class Limits:
    """The limits of a model. They are the same for portrait and landscape."""

    shortest_sec: float
    longest_sec: float
    max_bytes: int
    min_side: int  # minimum pixels of the shorter side
    max_long_side: int  # maximum pixels of the longer side
    max_short_side: int  # maximum pixels of the shorter side
    max_ratio: float = 2.4  # longer side to shorter side

    def combine(self, other: Limits) -> Limits:
        """The stricter limit in every field, for an index that has both models."""
        return Limits(
            max(self.shortest_sec, other.shortest_sec),
            min(self.longest_sec, other.longest_sec),
            min(self.max_bytes, other.max_bytes),
            max(self.min_side, other.min_side),
            min(self.max_long_side, other.max_long_side),
            min(self.max_short_side, other.max_short_side),
            min(self.max_ratio, other.max_ratio),
        )


# All aspect ratios that are listed for Marengo 2.7 are within 2.4:1, the limit in the API's error message.
_MARENGO_27 = Limits(4, 2 * HOUR, 2 * GB, 360, 3840, 2160)
_MARENGO_30 = Limits(4, 4 * HOUR, 4 * GB, 360, 5184, 2160)

#: The limits of each model: of the service's models as published, and of the embedded engine's.
LIMITS: dict[str, Limits] = {
    "marengo2.7": _MARENGO_27,
    "marengo3.0": _MARENGO_30,
    "marengo3.5": _MARENGO_30,
    # The embedded engine decodes pictures of any shape, up to 16,384 x 16,384 pixels.
    "tl-local-2": Limits(0.5, 2 * HOUR, 2 * GB, 1, 16_384, 16_384, math.inf),
    # The lengths that an analysis of the whole video accepts. An analysis of a part (a window) accepts longer
    # files. Sizes are those of the search model of the same time.
    **{
        name: replace(
            _MARENGO_27 if name == TEXT_MODEL_2025 else _MARENGO_30,
            shortest_sec=model.shortest_sec,
            longest_sec=max(model.sync_sec, model.task_sec),
        )
        for name, model in TEXT_MODELS.items()
    },
}
LIMITS["Marengo-retrieval-2.7"] = LIMITS["marengo2.7"]


def limits_of(*models: str) -> Limits | None:
    """The common limits of these models; None if none of them is known."""
    # The embedded engine accepts the same videos with all of its models.
    named = ["tl-local-2" if model.startswith("tl-local-") else model for model in models]
    known = [LIMITS[model] for model in named if model in LIMITS]
    if not known:
        return None
    strictest = known[0]
    for limits in known[1:]:
        strictest = strictest.combine(limits)
    return strictest


def refusal(facts: MediaFacts, limits: Limits) -> MediaRefused | None:
    """The error that the API returns for a video with these facts; None if it is within the limits."""
    if facts.size_bytes is not None and facts.size_bytes > limits.max_bytes:
        return MediaRefused(
            f"The video is too large. Please use a video with a size less than {_size(limits.max_bytes)}. "
            f"The current size is {_size(facts.size_bytes)}",
            "video_filesize_too_large",
        )
    if facts.width and facts.height and (refused := _picture_refusal(facts.width, facts.height, limits)):
        return refused
    seconds = facts.duration_sec
    if seconds is None or limits.shortest_sec - SLACK_SEC <= seconds <= limits.longest_sec + SLACK_SEC:
        return None
    is_short = seconds < limits.shortest_sec
    return MediaRefused(
        f"Video is too {'short' if is_short else 'long'}. Please use video with duration between "
        f"{limits.shortest_sec:g} seconds and {limits.longest_sec / 3600:g} hours"
        f"({limits.longest_sec:g} seconds). Current duration is {seconds:.2f} seconds",
        f"video_duration_too_{'short' if is_short else 'long'}",
    )


def _picture_refusal(width: int, height: int, limits: Limits) -> MediaRefused | None:
    """The API's error for the size of the picture; None if it is within the limits."""
    short, long = sorted((width, height))
    is_low = short < limits.min_side
    if is_low or long > limits.max_long_side or short > limits.max_short_side:
        return MediaRefused(
            f"The resolution of the video is too {'low' if is_low else 'high'}. Please upload a video with "
            f"resolution between {limits.min_side}x{limits.min_side} and "
            f"{limits.max_long_side}x{limits.max_short_side}. Current resolution is {width}x{height}",
            f"video_resolution_too_{'low' if is_low else 'high'}",
        )
    if long / short > limits.max_ratio + SLACK_RATIO:
        return MediaRefused(
            "The aspect ratio of the video is invalid. Please upload a video with aspect ratio between "
            f"1:1 and {limits.max_ratio:g}:1. Current resolution is {width}x{height}",
            "video_resolution_invalid_aspect_ratio",
        )
    return None


def _size(number: int) -> str:
    """Format a number of bytes, such as 2 GB or 5.3 MB."""
    for unit, name in ((GB, "GB"), (MB, "MB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"


async def facts_of(client: Client, video: str | Path, remote: Remote | None = None) -> MediaFacts:
    """Read the facts of a local file or of a URL from its header.

    If the server does not support range requests, only the size is known.

    Args:
        remote: the result of `client.probe_url`; None: it is requested.

    Raises:
        MediaRefused: the file does not exist, or is not a video.
        APIError: the server failed or could not be reached.
        MissingExtra: the extra `media` is not installed.
    """
    text = str(video)
    if not is_url(text):
        return await asyncio.to_thread(_read_file, text)
    remote = remote or await client.probe_url(text)
    size_only = MediaFacts(remote.length, None, None, None, None, None, None)
    if remote.length is None or not remote.accept_ranges:
        return size_only
    file = RangeFile(client, remote.final_url, remote.length, asyncio.get_running_loop())
    reading = asyncio.ensure_future(asyncio.to_thread(_read, file, redacted(text), remote.length))
    try:
        return await asyncio.shield(reading)
    except HeaderUnavailable:
        return size_only
    finally:
        file.close()
        if not reading.done():  # cancelled: the thread must end before the event loop, which its reads use
            await asyncio.wait({reading})
            reading.exception()


def _read_file(name: str) -> MediaFacts:
    path = local_path(name)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MediaRefused(f"cannot read {path}: {error.strerror}") from None
    return _read(str(path.resolve()), path.name, size)


def _read(source: str | RangeFile, name: str, size: int) -> MediaFacts:
    try:
        import av
    except ImportError:
        raise MissingExtra("PyAV, which reads the headers of videos,", "media") from None
    broken: TLDataError | None = None
    try:
        with av.open(source, options=CONTAINERS, metadata_errors="replace") as container:
            return _facts_of_container(container, name, size)
    except TLDataError:
        raise
    except Exception as error:  # noqa: BLE001 - a broken header may raise any exception of the library
        # The library may raise its own error instead of that of a failed block.
        reason = getattr(error, "strerror", None) or f"its header is broken ({type(error).__name__})"
        broken = getattr(source, "failure", None) or MediaRefused(f"cannot read {name} as a video: {reason}")
    raise broken


def _facts_of_container(container: Any, name: str, size: int) -> MediaFacts:
    pictures = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not pictures:
        raise MediaRefused(f"{name} has no video stream")
    stream = next((s for s in pictures if s.codec_context is not None), None)
    if stream is None:
        raise MediaRefused(f"FFmpeg does not support the video codec of {name}")
    seconds = [container.duration / 1_000_000] if container.duration else []  # FFmpeg counts microseconds
    if seconds and container.start_time and container.format.name.startswith("matroska"):
        # A Matroska duration counts from 0, even if the first frame is later.
        seconds[0] -= container.start_time / 1_000_000
    if stream.duration and stream.time_base:
        seconds.append(float(stream.duration * stream.time_base))
    return MediaFacts(
        size_bytes=size,
        duration_sec=max(seconds, default=None),
        width=stream.codec_context.width or None,
        height=stream.codec_context.height or None,
        fps=float(stream.average_rate) if stream.average_rate else None,
        codec=stream.codec_context.name,
        has_audio=bool(container.streams.audio),
    )


class Lengths:
    """The known lengths of videos in seconds, by id, URL or path.

    They are used to estimate bills and to begin long videos first. Only the latest ones are kept.
    """

    def __init__(self, maximum: int = 20_000) -> None:
        """
        Args:
            maximum: the number of lengths to keep.
        """
        self._maximum = maximum
        self._known: OrderedDict[str, float] = OrderedDict()

    def keep(self, video: str, seconds: float | None) -> None:
        """Store the length of a video; None is ignored."""
        if seconds is not None:
            self._known[video] = float(seconds)
            self._known.move_to_end(video)
            if len(self._known) > self._maximum:
                self._known.popitem(last=False)

    def of(self, video: str) -> float | None:
        """The known length; None if there is none."""
        return self._known.get(video)

    def about(self, video: object) -> float | None:
        """The known length, else an estimate by the size of a local file; None if there is neither."""
        if not isinstance(video, str):  # NULL
            return None
        if (known := self._known.get(video)) is not None:
            return known
        try:
            return os.stat(video).st_size / BYTES_A_SECOND
        except (OSError, ValueError):  # a URL, the id of a video, or an invalid path
            return None
