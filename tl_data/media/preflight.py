"""A remote file as one that can be read and seeked, without downloading it: for reading container headers.

What will be refused, known from the container's header: before an upload, before anything is paid.

    facts = await preflight(client, "https://example.com/tour.mp4", "marengo3.0")

reads a few blocks, never the file, and raises what the API would refuse the video with.
Reading headers needs the extra `media`. What a header does not say is no reason to refuse.
"""

from __future__ import annotations

import asyncio
import io
import struct
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_data.errors import BadRequest, ConnectionFailed, MediaRefused, MissingExtra, TLDataError
from tl_data.untrusted import CONTAINERS
from tl_data.urls import redacted

if TYPE_CHECKING:
    from tl_data.client import Client, Remote

FIRST_BLOCK = 128 << 10
LARGEST_BLOCK = 2 << 20
BLOCKS = 8  # kept in memory
MOST = 32 << 20  # bytes read of one file before giving up on its header
PATIENCE = 60.0  # seconds for one block


class GivesUp(BadRequest):
    """The header is too far inside of the file, or its server only sends whole files."""


class RangeFile(io.RawIOBase):
    """A remote file as one that can be read and seeked, by a thread beside the event loop.

    Blocks are fetched as they are needed; those that follow each other grow, so that a long header
    takes few requests. The last few are kept.
    """

    def __init__(self, client: Client, url: str, length: int, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._url = url
        self._length = length
        self._loop = loop
        self._at = 0
        self._blocks: dict[int, bytes] = {}  # by where they begin, oldest first
        self._end = 0  # of the last block
        self._grown = FIRST_BLOCK
        self.fetched = 0  # bytes
        self.failure: TLDataError | None = None
        self._lock = threading.Lock()  # of `_reading`
        self._reading: Future[bytes] | None = None  # the block that the reading thread waits for

    def close(self) -> None:
        """Read nothing more; the block that is waited for is given up. From any thread."""
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
        piece = block[self._at - start : end - start]  # nothing if the file is shorter than was said
        self._at += len(piece)
        return piece

    def _block(self) -> tuple[int, bytes]:
        """The block that holds the position, and where it begins."""
        for start, block in self._blocks.items():
            if start <= self._at < start + len(block):
                return start, block
        self._grown = min(LARGEST_BLOCK, self._grown * 2) if self._at == self._end else FIRST_BLOCK
        start, self._end = self._at, min(self._length, self._at + self._grown)
        if self.fetched + self._end - start > MOST:
            self.failure = GivesUp("the header is too far inside of the file", "header_not_found")
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
            block = reading.result(PATIENCE)
        except TLDataError as error:
            gives_up = isinstance(error, BadRequest) and error.code == "ranges_not_supported"
            self.failure = GivesUp(str(error), error.code) if gives_up else error
            raise self.failure from None
        except TimeoutError:
            reading.cancel()
            self.failure = ConnectionFailed(f"the server of {redacted(self._url)} sends too slowly")
            raise self.failure from None
        self.fetched += len(block)
        return block


MB, GB = 1 << 20, 1 << 30

SLACK_SEC = 0.05  # containers round: a file cut to 4 s may say 3.99
SLACK_RATIO = 0.005  # 2.4:1 in even pixels may be a little more


@dataclass(frozen=True)
class MediaFacts:
    """What the header says of a video; None is what it does not say."""

    size_bytes: int | None
    duration_sec: float | None
    width: int | None
    height: int | None
    fps: float | None
    codec: str | None
    has_audio: bool | None


@dataclass(frozen=True)
class Limits:
    """What a model takes. A portrait video is measured like the same one lying on its side."""

    shortest_sec: float
    longest_sec: float
    most_bytes: int
    smallest_side: int
    longest_side: int
    widest_side: int
    widest_ratio: float = 2.4
    query_tokens: int | None = None
    image_side: int = 64
    image_bytes: int = 5 * MB

    def and_(self, other: Limits) -> Limits:
        """The stricter of both in everything: what an index with both models takes."""
        tokens = [n for n in (self.query_tokens, other.query_tokens) if n is not None]
        return Limits(
            max(self.shortest_sec, other.shortest_sec),
            min(self.longest_sec, other.longest_sec),
            min(self.most_bytes, other.most_bytes),
            max(self.smallest_side, other.smallest_side),
            min(self.longest_side, other.longest_side),
            min(self.widest_side, other.widest_side),
            min(self.widest_ratio, other.widest_ratio),
            min(tokens, default=None),
            max(self.image_side, other.image_side),
            min(self.image_bytes, other.image_bytes),
        )


#: Published limits of each model. The aspect ratios listed for Marengo 2.7 all lie within 2.4:1, which is
#: what the API names when it refuses.
LIMITS: dict[str, Limits] = {
    "marengo2.7": Limits(4, 7200, 2 * GB, 360, 3840, 2160, query_tokens=77),
    "marengo3.0": Limits(
        4, 14400, 4 * GB, 360, 5184, 2160, query_tokens=500, image_side=128, image_bytes=32 * MB
    ),
    "marengo3.5": Limits(
        4, 14400, 4 * GB, 360, 5184, 2160, query_tokens=2000, image_side=128, image_bytes=32 * MB
    ),
    "pegasus1.2": Limits(4, 3600, 2 * GB, 360, 3840, 2160),
    # By task, without a window; with windows of two hours it takes files of four.
    "pegasus1.5": Limits(1, 7200, 4 * GB, 360, 5184, 2160),
    "pegasus1.6": Limits(1, 7200, 4 * GB, 360, 5184, 2160),
    "tl-local-2": Limits(4, 7200, 2 * GB, 360, 5184, 2160, image_bytes=32 * MB),
}
LIMITS["Marengo-retrieval-2.7"] = LIMITS["marengo2.7"]


def limits_of(*models: str) -> Limits | None:
    """What all these models take; None if none of them is known."""
    # Whatever models the embedded engine works with, it takes the same videos.
    named = ["tl-local-2" if model.startswith("tl-local-") else model for model in models]
    known = [LIMITS[model] for model in named if model in LIMITS]
    if not known:
        return None
    strictest = known[0]
    for limits in known[1:]:
        strictest = strictest.and_(limits)
    return strictest


def refusal(facts: MediaFacts, limits: Limits) -> MediaRefused | None:
    """The API's refusal of such a video, or None if nothing speaks against it."""
    if facts.size_bytes is not None and facts.size_bytes > limits.most_bytes:
        return MediaRefused(
            f"The video is too large. Please use a video with a size less than {_size(limits.most_bytes)}. "
            f"The current size is {_size(facts.size_bytes)}",
            "video_filesize_too_large",
        )
    if facts.width and facts.height and (refused := _picture(facts.width, facts.height, limits)):
        return refused
    seconds = facts.duration_sec
    if seconds is None or limits.shortest_sec - SLACK_SEC <= seconds <= limits.longest_sec + SLACK_SEC:
        return None
    short = seconds < limits.shortest_sec
    return MediaRefused(
        f"Video is too {'short' if short else 'long'}. Please use video with duration between "
        f"{limits.shortest_sec:g} seconds and {limits.longest_sec / 3600:g} hours"
        f"({limits.longest_sec:g} seconds). Current duration is {seconds:.2f} seconds",
        f"video_duration_too_{'short' if short else 'long'}",
    )


def _picture(width: int, height: int, limits: Limits) -> MediaRefused | None:
    short, long = sorted((width, height))
    low = short < limits.smallest_side
    if low or long > limits.longest_side or short > limits.widest_side:
        return MediaRefused(
            f"The resolution of the video is too {'low' if low else 'high'}. Please upload a video with "
            f"resolution between {limits.smallest_side}x{limits.smallest_side} and "
            f"{limits.longest_side}x{limits.widest_side}. Current resolution is {width}x{height}",
            f"video_resolution_too_{'low' if low else 'high'}",
        )
    if long / short > limits.widest_ratio + SLACK_RATIO:
        return MediaRefused(
            "The aspect ratio of the video is invalid. Please upload a video with aspect ratio between "
            f"1:1 and {limits.widest_ratio:g}:1. Current resolution is {width}x{height}",
            "video_resolution_invalid_aspect_ratio",
        )
    return None


def refusal_of_text(text: str, limits: Limits) -> BadRequest | None:
    """The refusal of a query that is surely too long: a word is at least one token."""
    words = len(text.split())
    if limits.query_tokens is None or words <= limits.query_tokens:
        return None
    return BadRequest(
        f"The text token length should be less than or equal to {limits.query_tokens}; "
        f"this text has {words} words",
        "parameter_invalid",
    )


def refusal_of_image(data: bytes, limits: Limits) -> BadRequest | None:
    """The refusal of a picture to search or embed by: neither JPEG nor PNG, too small, or too many bytes."""
    size = _image_size(data)
    if size is None:
        return BadRequest("The image is neither JPEG nor PNG", "parameter_invalid")
    if len(data) > limits.image_bytes:
        return BadRequest(
            f"The image has {_size(len(data))}; at most {_size(limits.image_bytes)} are taken",
            "parameter_invalid",
        )
    if min(size) < limits.image_side:
        return BadRequest(
            f"The image is {size[0]}x{size[1]}; at least {limits.image_side}x{limits.image_side} is taken",
            "parameter_invalid",
        )
    return None


def _size(number: int) -> str:
    """Bytes in words, such as 2 GB or 5.3 MB."""
    for unit, name in ((GB, "GB"), (MB, "MB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"


def _image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of a PNG or JPEG."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF:
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + length
    return None


async def preflight(
    client: Client, video: str | Path, *models: str, remote: Remote | None = None
) -> MediaFacts:
    """The facts of a local file or a URL, if the models take it. A model that is not known limits nothing.

    Without models it is measured by the widest limits the API has.

    Raises:
        MediaRefused: the API would refuse it, and how; or it is not there, or is no video.
        APIError, MissingExtra: as for `facts_of`.
    """
    facts = await facts_of(client, video, remote)
    limits = limits_of(*models) if models else LIMITS["marengo3.0"]
    if limits and (refused := refusal(facts, limits)):
        raise refused
    return facts


async def facts_of(client: Client, video: str | Path, remote: Remote | None = None) -> MediaFacts:
    """The facts of a local file or of a URL, from its header.

    Of a URL whose server only sends whole files, no more than the size is known.

    `remote` is what `client.probe_url` said, if it was asked already.

    Raises:
        MediaRefused: there is no such file, or it is no video.
        APIError: its server could not be asked.
        MissingExtra: the extra `media` is not installed.
    """
    text = str(video)
    if not text.lower().startswith(("http://", "https://")):
        return await asyncio.to_thread(_of_file, text)
    remote = remote or await client.probe_url(text)
    unseen = MediaFacts(remote.length, None, None, None, None, None, None)
    if remote.length is None or not remote.accept_ranges:
        return unseen
    file = RangeFile(client, remote.final_url, remote.length, asyncio.get_running_loop())
    reading = asyncio.ensure_future(asyncio.to_thread(_read, file, redacted(text), remote.length))
    try:
        return await asyncio.shield(reading)
    except GivesUp:
        return unseen
    finally:
        file.close()
        if not reading.done():  # cancelled: the thread ends before the loop does, which its reads need
            await asyncio.wait({reading})
            reading.exception()


def _of_file(name: str) -> MediaFacts:
    path = Path(name)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise MediaRefused(f"{path} cannot be read: {error.strerror}") from None
    return _read(str(path.resolve()), path.name, size)


def _read(source: str | RangeFile, name: str, size: int) -> MediaFacts:
    try:
        import av
    except ImportError:
        raise MissingExtra("PyAV, which reads the headers of videos,", "media") from None
    broken: TLDataError | None = None
    try:
        with av.open(source, options=CONTAINERS, metadata_errors="replace") as container:
            return _facts(container, name, size)
    except TLDataError:
        raise
    except Exception as error:  # noqa: BLE001 - a header may make the library raise anything
        # A failure to fetch a block comes out of the library as its own error or as itself.
        reason = getattr(error, "strerror", None) or f"its header is broken ({type(error).__name__})"
        broken = getattr(source, "failure", None) or MediaRefused(
            f"{name} cannot be read as a video: {reason}"
        )
    raise broken


def _facts(container: Any, name: str, size: int) -> MediaFacts:
    pictures = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not pictures:
        raise MediaRefused(f"{name} holds no moving pictures: it is not a video")
    stream = next((s for s in pictures if s.codec_context is not None), None)
    if stream is None:
        raise MediaRefused(f"{name} holds pictures in a codec that FFmpeg does not know")
    seconds = [container.duration / 1_000_000] if container.duration else []
    if seconds and container.start_time and container.format.name.startswith("matroska"):
        seconds[0] -= container.start_time / 1_000_000  # Matroska counts from 0, wherever the pictures begin
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
