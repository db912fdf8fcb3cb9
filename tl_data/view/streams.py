"""A proxy of the HLS streams that the platform made of the videos of a lake.

The URLs of a stream are signed for an hour, and their hosts are not among those that the page may load from:
the lake does not name them. So the page loads playlists and segments from the viewer, which fetches them. In
a playlist, the viewer replaces each URL by `stream?id=<video>&n=<number>`. It fetches no URL that a playlist
did not contain, and no URL or redirect to another origin (scheme, host and port).
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from tl_data.errors import MediaRefused, NotFound, TLDataError
from tl_data.settings import Settings
from tl_data.urls import origin, unsigned_parameters
from tl_data.view.media import MEDIA_TYPES
from tl_data.view.snapshot import Row

if TYPE_CHECKING:
    from tl_data.client.remote import Part
    from tl_data.connection import Connection

#: Seconds after which the platform is asked for a new URL of a stream: half of the time that it is valid.
URL_SECONDS = 1800.0
#: The largest playlist or segment, in bytes.
MAX_BYTES = 64 << 20
#: Streams whose URLs are kept; the least recently used one is removed first.
MAX_STREAMS = 64
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_URI = re.compile(r'URI="([^"]+)"')


@dataclass(frozen=True)
class StreamResponse:
    """The response to the page: a playlist or a segment."""

    status: int  # 200; 206 or 416 if a range was requested
    media_type: str
    body: bytes
    content_range: str | None = None


@dataclass
class _Stream:
    """The URLs of one stream by number. Number 0 is the main playlist.

    A URL is identified by its playlist, its path and its parameters without the signature. So it keeps its
    number when the platform signs it again.
    """

    signing: str  # the setting `signing_parameters`
    renewed: float = 0.0  # when the URLs were last requested from the platform, by the monotonic clock
    urls: list[str] = field(default_factory=list)  # the latest signed URL of each number
    numbers: dict[tuple[int, str], int] = field(
        default_factory=dict
    )  # (playlist, path and parameters) -> number
    playlists: set[int] = field(default_factory=set)  # the numbers that are playlists
    lock: threading.Lock = field(default_factory=threading.Lock)

    def set_main_playlist(self, url: str) -> None:
        """Set the URL of the main playlist."""
        self.urls[:1] = [url]

    def rewrite(self, playlist: Part, number: int, identifier: str) -> str:
        """Replace the URLs in a playlist by those of the viewer.

        Raises:
            TLDataError: it contains a URL of another origin, or text that is not a URL.
        """
        self.playlists.add(number)
        text, base, seen = playlist.body.decode("utf-8", "replace"), playlist.final_url, dict[str, str]()

        def local(uri: str) -> str:
            try:
                url = urljoin(base, uri)
                is_foreign = origin(url) != origin(base)
            except ValueError as error:
                raise TLDataError(f"the stream contains a URL that cannot be parsed: {error}") from None
            if is_foreign:
                scheme, host, port = origin(url)
                raise TLDataError(f"the stream refers to another origin: {scheme}://{host}:{port}")
            return "stream?" + urlencode({"id": identifier, "n": self._number(url, number, seen)})

        return "\n".join(_lines(text, local))

    def _number(self, url: str, playlist: int, seen: dict[str, str]) -> int:
        """The number of a URL in a playlist.

        Args:
            seen: the URLs of this playlist so far, by path and parameters; this one is added.
        """
        parts = urlsplit(url)
        key = "?".join((parts.path, "&".join(unsigned_parameters(parts.query, parts.path, self.signing))))
        if seen.setdefault(key, url) != url:
            key = url  # what looks like a signature distinguishes the segments of this playlist
        number = self.numbers.setdefault((playlist, key), len(self.urls))
        self.urls[number : number + 1] = [url]
        return number


class Streams:
    """The streams of the videos of a lake.

    Args:
        settings: settings of the platform that has the videos; None if there is neither a key nor an engine.
        url_seconds: seconds after which the platform is asked for a new URL of a stream.
    """

    def __init__(self, settings: Settings | None, url_seconds: float = URL_SECONDS) -> None:
        self.settings = settings
        self.url_seconds = url_seconds
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._lock = threading.Lock()

    def may_have_stream(self, tile: Row) -> bool:
        """Whether the platform may have a stream of the video. Nothing is requested.

        Args:
            tile: the video: a row of `Library.tiles`.
        """
        return self.settings is not None and bool(tile["video_id"] and tile["record"].get("index_id"))

    def fetch(self, tile: Row, number: int = 0, byte_range: str | None = None) -> StreamResponse:
        """A playlist or segment.

        Args:
            tile: the video: a row of `Library.tiles`.
            number: the number in the rewritten playlist; 0: the main playlist.
            byte_range: the range of a segment, as in the header `Range`; None: all of it.

        Raises:
            MediaRefused: the platform has no stream of the video, the number is unknown, or the host of the
                stream refuses the URL.
            TLDataError: the platform or the host of the stream does not respond, a part is larger than
                MAX_BYTES, or a playlist contains a URL of another origin.
        """
        stream = self._stream(tile["id"])
        with stream.lock:
            if number and number >= len(stream.urls):
                raise MediaRefused("this part of the stream is unknown: load the page again", "unknown_part")
            if not stream.urls or time.monotonic() - stream.renewed > self.url_seconds:
                self._renew(stream, tile)
            url = stream.urls[number]
            suffix = Path(urlsplit(url).path).suffix.lower()
            whole = number == 0 or number in stream.playlists or suffix in (".m3u8", ".m3u")
        part = self._read(url, None if whole else byte_range)
        if part.status == 206 and _is_playlist(part):
            part = self._read(url)
        if not _is_playlist(part):
            return StreamResponse(
                part.status, MEDIA_TYPES.get(suffix, "video/mp4"), part.body, part.content_range
            )
        with stream.lock:
            return StreamResponse(200, PLAYLIST_TYPE, stream.rewrite(part, number, tile["id"]).encode())

    def _stream(self, identifier: str) -> _Stream:
        """The stream of a video; an empty one if it is unknown."""
        with self._lock:
            if identifier not in self._streams:
                signing = self.settings.signing_parameters if self.settings else ""
                self._streams[identifier] = _Stream(signing)
            self._streams.move_to_end(identifier)
            if len(self._streams) > MAX_STREAMS:
                self._streams.popitem(last=False)
            return self._streams[identifier]

    def _renew(self, stream: _Stream, tile: Row) -> None:
        """Request new URLs of the known parts. The caller holds the lock of the stream."""
        stream.set_main_playlist(self._request_url(tile))
        for number in sorted(stream.playlists):  # a playlist has a higher number than the one that names it
            try:
                part = self._read(stream.urls[number])
            except MediaRefused:  # the platform no longer has this variant; the others play on
                if number == 0:
                    raise
                stream.playlists.discard(number)
                continue
            if _is_playlist(part):
                stream.rewrite(part, number, tile["id"])
        stream.renewed = time.monotonic()

    def _connection(self) -> Connection:
        from tl_data.connection import connect

        if self.settings is None:
            raise MediaRefused(
                'streams need an API key (TL_API_KEY) or the embedded engine (pip install "tl_data[local]")',
                "no_stream",
            )
        return connect(self.settings)

    def _read(self, url: str, byte_range: str | None = None) -> Part:
        connection = self._connection()
        return connection.run(connection.session.client.read_part(url, MAX_BYTES, byte_range))

    def _request_url(self, tile: Row) -> str:
        """The signed URL of the main playlist, from the platform."""
        connection = self._connection()
        if not self.may_have_stream(tile):
            raise MediaRefused("the video is not indexed, so the platform has no stream of it", "no_stream")
        try:
            video = connection.run(
                connection.session.client.retrieve_video(tile["record"]["index_id"], tile["video_id"])
            )
        except NotFound as error:
            raise MediaRefused(f"the platform does not have the video: {error}", "no_stream") from error
        url = (video.get("hls") or {}).get("video_url")
        if not url:
            raise MediaRefused("the platform has no stream of this video", "no_stream")
        return str(url)


def _is_playlist(part: Part) -> bool:
    return part.body.lstrip().startswith(b"#EXTM3U")


def _lines(playlist: str, local: Callable[[str], str]) -> Iterator[str]:
    """The lines of a playlist, with `local(uri)` instead of each URI."""
    for line in playlist.splitlines():
        if not line.strip() or line.startswith("#"):
            yield _URI.sub(lambda match: f'URI="{local(match[1])}"', line)
        else:
            yield local(line.strip())
